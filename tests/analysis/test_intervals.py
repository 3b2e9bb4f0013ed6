from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lth.analysis import bootstrap_interval, mean_interval
from lth.errors import LthError


def test_five_values_by_hand() -> None:
    # mean 3, variance (4+1+0+1+4)/4 = 2.5, standard error sqrt(2.5/5) = 0.70711; table: t(4, 0.975) = 2.776.
    mean, low, high, n = mean_interval([5, 1, 4, 2, 3])
    assert (mean, n) == (3, 5)
    assert low == pytest.approx(3 - 2.776 * 0.70711, abs=5e-4)
    assert high == pytest.approx(3 + 2.776 * 0.70711, abs=5e-4)


def test_another_confidence_by_hand() -> None:
    # table: t(4, 0.95) = 2.132
    assert mean_interval([5, 1, 4, 2, 3], confidence=0.9).high == pytest.approx(3 + 2.132 * 0.70711, abs=5e-4)


@given(st.lists(st.floats(-1e3, 1e3).map(lambda value: round(value, 3)), min_size=2, max_size=40))
def test_agrees_with_scipy(values: list[float]) -> None:
    if len(set(values)) == 1:
        return
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    ours = mean_interval(values)
    assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-9, abs=1e-9)


def test_one_value_has_no_interval_and_equal_values_no_width() -> None:
    generator = np.random.default_rng(0)
    for interval in (mean_interval([0.98]), bootstrap_interval([0.98], generator=generator)):
        assert interval.mean == 0.98 and interval.n == 1
        assert math.isnan(interval.low) and math.isnan(interval.high)
    for interval in (mean_interval([0.1] * 3), bootstrap_interval([0.1] * 3, generator=generator)):
        assert interval == (0.1, 0.1, 0.1, 3)


@pytest.mark.parametrize(
    ("values", "confidence", "message"),
    [([], 0.95, "at least one"), ([0.9, math.nan], 0.95, "1 of 2"), ([1.0, 2.0], 95, r"confidence.*95")],
)
def test_mistakes_are_named(values: list[float], confidence: float, message: str) -> None:
    with pytest.raises(LthError, match=message):
        mean_interval(values, confidence)
    with pytest.raises(LthError, match=message):
        bootstrap_interval(values, confidence, generator=np.random.default_rng(0))


def test_five_seeds_are_covered_by_t_and_not_by_the_percentile_bootstrap() -> None:
    samples = np.random.default_rng(7).normal(size=(4000, 5))  # true mean 0
    covered = [interval.low <= 0 <= interval.high for interval in map(mean_interval, samples)]
    assert 0.93 < np.mean(covered) < 0.97
    # all 4000 percentile bootstraps at once: [samples, resamples, 5] -> means -> 2.5% and 97.5% points
    draws = np.random.default_rng(8).integers(0, 5, (500, 5))
    low, high = np.quantile(samples[:, draws].mean(axis=2), [0.025, 0.975], axis=1)
    assert np.mean((low <= 0) & (high >= 0)) < 0.87


def test_bootstrap_approaches_t_for_many_normal_values_and_repeats_with_its_generator() -> None:
    values = np.random.default_rng(1).normal(10, 2, 400)
    t = mean_interval(values)
    for method in ("BCa", "percentile"):
        first = bootstrap_interval(values, generator=np.random.default_rng(3), method=method)
        assert first == bootstrap_interval(values, generator=np.random.default_rng(3), method=method)
        assert (first.low, first.high) == pytest.approx((t.low, t.high), abs=0.03)
        assert first.mean == pytest.approx(t.mean)


@given(st.lists(st.floats(0, 1).map(lambda value: round(value, 4)), min_size=2, max_size=8), st.integers(0, 99))
def test_bootstrap_ends_are_finite_and_ordered(values: list[float], seed: int) -> None:
    mean, low, high, _ = bootstrap_interval(values, generator=np.random.default_rng(seed), resamples=199)
    rounding = 1e-12  # of the mean of resamples that hold one value many times
    assert min(values) - rounding <= low <= high <= max(values) + rounding  # false for nan too
    assert mean == pytest.approx(np.mean(values))


def test_unknown_method_is_refused() -> None:
    with pytest.raises(LthError, match=r"'basic'.*BCa"):
        bootstrap_interval([1, 2], generator=np.random.default_rng(0), method="basic")  # type: ignore[arg-type]
