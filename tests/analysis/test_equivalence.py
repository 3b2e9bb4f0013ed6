"""Tests against a margin: by hand, against SciPy, and in simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lth.analysis import holm, margin_test
from lth.errors import LthError


def test_by_hand() -> None:
    # mean 0.002, sd sqrt(2.5)/1000 = 0.00158114, standard error 0.000707107, 4 degrees of freedom.
    # To -0.005: t = 0.007 / 0.000707107 = 9.8995, p = 0.000293.
    # To +0.005: t = -0.003 / 0.000707107 = -4.2426, p = 0.00662.
    found = margin_test([0.0, 0.001, 0.002, 0.003, 0.004], 0.005)
    assert found.not_worse == pytest.approx(0.000293, abs=1e-6)
    assert found.worse == pytest.approx(1 - 0.000293, abs=1e-6)
    assert found.equivalent == pytest.approx(0.00662, abs=1e-5)


@given(
    st.lists(st.integers(-30, 30), min_size=2, max_size=12).filter(lambda values: len(set(values)) > 1),
    st.integers(1, 20),
)
def test_as_scipy_has_it(thousandths: list[int], margin: int) -> None:
    differences, bound = np.array(thousandths) / 1000, margin / 1000
    found = margin_test(differences, bound)
    above = stats.ttest_1samp(differences, -bound, alternative="greater").pvalue
    assert found.not_worse == pytest.approx(above, abs=1e-9)
    assert found.worse == pytest.approx(stats.ttest_1samp(differences, -bound, alternative="less").pvalue, abs=1e-9)
    assert found.equivalent == pytest.approx(
        max(above, stats.ttest_1samp(differences, bound, alternative="less").pvalue), abs=1e-9
    )


def test_without_spread_it_is_the_sign_test() -> None:
    """As likely on either side, n equal differences lie on one side with probability 2^-n: that is all they say."""
    assert margin_test([0.0, 0.0, 0.0], 0.005) == (0.125, 0.875, 0.125)
    assert margin_test([-0.01, -0.01], 0.005) == (0.75, 0.25, 0.75)
    assert margin_test([-0.005, -0.005], 0.005)[:2] == (0.5, 0.5)
    assert all(math.isnan(value) for value in margin_test([0.1], 0.005))
    with pytest.raises(LthError, match="margin must be above 0"):
        margin_test([0.0, 0.1], 0)


@pytest.mark.parametrize("base", [0.97, 0.3, 0.811])
def test_rounding_at_the_margin_is_no_evidence(base: float) -> None:
    """Accuracies of a test set of 200, one right answer fewer than dense in every seed: differences of 0.005 as floats
    have them lie up to 1e-16 beside the margin, with a spread of that size."""
    accuracies = np.round((base + np.arange(6) / 200) * 200) / 200
    differences = (np.round(accuracies * 200) - 1) / 200 - accuracies
    assert margin_test(differences, 0.005)[:2] == (0.5, 0.5)


@pytest.mark.parametrize(("n", "published"), [(5, 0.14), (10, 0.52), (20, 0.93)])
def test_power_of_tost_is_the_published_one(n: int, published: float) -> None:
    """Margin 0.2 points, standard deviation of the differences 0.25, no true difference."""
    samples = np.random.default_rng(n).normal(0, 0.25, (4000, n))
    power = np.mean([margin_test(sample, 0.2).equivalent < 0.05 for sample in samples])
    assert power == pytest.approx(published, abs=0.025)


def test_it_calls_a_ticket_at_the_margin_matching_in_one_case_of_twenty() -> None:
    samples = np.random.default_rng(1).normal(-0.005, 0.004, (4000, 5))
    found = [margin_test(sample, 0.005) for sample in samples]
    for wrong in (np.mean([test.not_worse < 0.05 for test in found]), np.mean([test.worse < 0.05 for test in found])):
        assert wrong == pytest.approx(0.05, abs=0.012)  # 3.5 standard errors


def test_holm_by_hand_and_nan_stays() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    found = holm([0.5, math.nan, 0.5])
    assert found[::2] == [1, 1] and math.isnan(found[1]) and holm([]) == []


def test_holm_is_wrong_at_all_in_one_case_of_twenty() -> None:
    """Ten true hypotheses at once: the chance that any is rejected."""
    draws = np.random.default_rng(0).uniform(size=(4000, 10))
    assert np.mean([min(holm(row.tolist())) < 0.05 for row in draws]) == pytest.approx(0.05, abs=0.012)
    assert np.mean(draws.min(axis=1) < 0.05) > 0.35  # unadjusted
