"""The test that may be looked at again and again: by hand, against numerical integration, and how often it is wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from lth.analysis import confidence_sequence, e_value, margin_test, seeds_to_decide, sequential_test
from lth.analysis.equivalence import FIRST_LOOK
from lth.analysis.sequential import EFFECT, LATER, sequential_difference
from lth.errors import LthError


def test_by_hand() -> None:
    """1, 2, 3: n = 3, k = 0.75; (sum)^2 / (n sum of squares) = 36 / 42 = 6/7, so 1 + k / 7 = 1.107143.

    1.75^-0.5 (1.75 / 1.107143)^1.5 = 0.755929 * 1.987246 = 1.502217; the mean is above 0 with Student's t, 3 degrees of
    freedom, at sqrt(3 * 0.75 * (6/7) / 1.107143) = 1.319829: 0.860714. Twice the product: 2.58596."""
    assert e_value([1.0, 2.0, 3.0]) == pytest.approx(2.58596, abs=2e-5)


def test_of_one_value_it_knows_the_sign_only() -> None:
    """2 P(t with 1 degree of freedom < sqrt 0.25) = 1 + 2/pi atan 0.5; of both signs the mean is 1."""
    assert e_value([0.3]) == e_value([7.0]) == pytest.approx(1 + 2 / math.pi * math.atan(0.5))
    assert e_value([0.3]) + e_value([-0.3]) == pytest.approx(2)


@given(st.lists(st.integers(-40, 40), min_size=2, max_size=15).filter(lambda values: len(set(values)) > 1))
def test_it_is_the_likelihood_ratio_of_noncentral_t(values: list[int]) -> None:
    """Half-normal effects against none, integrated numerically over SciPy's noncentral t density."""
    n, statistic = len(values), stats.ttest_1samp(values, 0).statistic
    if abs(statistic) > 20:  # SciPy's density is not exact there
        return

    def weighted(delta: float) -> float:
        density = stats.nct.pdf(statistic, n - 1, delta * math.sqrt(n)) / stats.t.pdf(statistic, n - 1)
        return float(2 * stats.norm.pdf(delta, 0, math.sqrt(EFFECT)) * density)

    expected, _ = integrate.quad(weighted, 0, 5, limit=200)
    assert e_value(np.array(values, float)) == pytest.approx(expected, rel=1e-4)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20), st.floats(0.001, 1000), st.floats(0.001, 2))
def test_it_has_no_unit_no_order_and_grows_with_the_values(values: list[float], scale: float, shift: float) -> None:
    sample = np.array(values)
    assert e_value(sample * scale) == pytest.approx(e_value(sample), rel=1e-6)
    assert e_value(sample[::-1]) == pytest.approx(e_value(sample), rel=1e-6)
    assert e_value(sample + shift) >= e_value(sample) * (1 - 1e-9)


@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_its_mean_is_1_at_the_bound(n: int) -> None:
    samples = np.random.default_rng(n).normal(size=(20_000, n))
    found = np.array([e_value(sample) for sample in samples])
    assert found.mean() == pytest.approx(1, abs=4 * found.std() / math.sqrt(20_000))


def test_equal_differences_need_nine_seeds() -> None:
    """2 (1 + n/4)^((n-1)/2) times nearly 1: 93.5 of eight seeds, 223 of nine."""
    assert sequential_test([0.0] * 8, 0.005).not_worse > FIRST_LOOK > sequential_test([0.0] * 9, 0.005).not_worse
    assert seeds_to_decide(0.0, 0.0, 0.005) == 9
    exactly = sequential_test([-0.005] * 50, 0.005)
    assert exactly.not_worse == exactly.worse == 1  # at the margin itself no number of them says anything


def test_its_p_values() -> None:
    sample = [0.001, 0.0, 0.002, -0.001, 0.003, 0.001, 0.0, 0.002]
    found = sequential_test(sample, 0.005)
    e = e_value(np.array(sample) + 0.005)
    assert found.not_worse == pytest.approx(FIRST_LOOK / LATER / e) and found.worse == 1
    assert found.not_worse <= found.equivalent
    assert found.equivalent == pytest.approx(sequential_test([-value for value in sample], 0.005).not_worse)
    assert all(math.isnan(value) for value in sequential_test([0.1], 0.005))
    assert math.isnan(sequential_difference([0.1]))
    with pytest.raises(LthError, match="margin must be above 0"):
        sequential_test(sample, 0)


def test_the_two_sided_one_is_that_of_a_normal_effect() -> None:
    """sqrt(1+k)^-1 ((1 + t^2/v) / (1 + t^2/(v (1+k))))^(n/2) (Gonen et al. 2005)."""
    sample = np.array([1.0, 2.0, 4.0, 3.0, 6.0, 2.5])
    k, t = EFFECT * 6, stats.ttest_1samp(sample, 0).statistic
    e = ((1 + t * t / 5) / (1 + t * t / 5 / (1 + k))) ** 3 / math.sqrt(1 + k)
    assert sequential_difference(sample) == pytest.approx(min(1, 4 / e))


def test_the_ends_of_a_confidence_sequence_are_where_the_e_value_is_20() -> None:
    sample = np.random.default_rng(3).normal(2, 1, 15)
    found = confidence_sequence(sample)
    for end in (found.low, found.high):
        assert (e_value(sample - end) + e_value(end - sample)) / 2 == pytest.approx(20)
    few = confidence_sequence(sample[:5])
    assert (few.low, few.high) == (-math.inf, math.inf) and few.n == 5


def test_a_confidence_sequence_holds_the_mean_at_every_n() -> None:
    samples = np.random.default_rng(4).normal(size=(400, 60))
    missed = 0
    for sample in samples:
        ends = [confidence_sequence(sample[:n]) for n in range(6, 61, 3)]
        missed += any(not end.low <= 0 <= end.high for end in ends)
    assert missed / 400 <= 0.05


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 0.005), (-0.003, 0.004), (-0.009, 0.006), (0.002, 0.02)])
def test_the_seeds_asked_for_would_decide_in_four_of_five_cases(mean: float, deviation: float) -> None:
    needed = seeds_to_decide(mean, deviation, 0.005)
    assert needed is not None
    wins = {}
    for n in (needed - 1, needed):
        samples = np.random.default_rng(0).normal(mean, deviation, (2000, n))
        found = [sequential_test(sample, 0.005) for sample in samples]
        wins[n] = np.mean([(test.not_worse if mean > -0.005 else test.worse) < FIRST_LOOK for test in found])
    assert wins[needed] >= 0.77 and wins[needed - 1] <= 0.83


def test_what_no_number_of_seeds_decides_is_said() -> None:
    assert seeds_to_decide(-0.005, 0.01, 0.005) is None
    assert seeds_to_decide(-0.005, 0.0, 0.005) is None and seeds_to_decide(0.3 - 0.305, 0.01, 0.005) is None
    assert seeds_to_decide(-0.00499, 0.02, 0.005) is None  # beyond 10,000


def draw_normal(generator: np.random.Generator, count: int) -> np.ndarray:
    return generator.normal(0, 0.004, count)


def draw_counts(generator: np.random.Generator, count: int) -> np.ndarray:
    """Of a test set of 500."""
    return generator.choice([-2, -1, 0, 1, 2], count, p=[0.1, 0.2, 0.4, 0.2, 0.1]) / 500


def draw_heavy(generator: np.random.Generator, count: int) -> np.ndarray:
    return generator.standard_t(3, count) * 0.002


def draw_good_tail(generator: np.random.Generator, count: int) -> np.ndarray:
    return (generator.exponential(size=count) - 1) * 0.004


ADVISED = "as advised"


@pytest.mark.parametrize("draw", [draw_normal, draw_counts, draw_heavy, draw_good_tail])
@pytest.mark.parametrize(("first", "more"), [(5, ADVISED), (5, 5), (5, 1), (3, 1), (3, 7)])
def test_looking_until_it_is_decided_calls_one_in_twenty_matching_at_most(draw, first: int, more: int | str) -> None:
    """400 sweeps whose tickets are worse by exactly the margin, looked at until decided or 200 seeds: first by the t
    test, then by the e-value. With the t test alone 8% (as advised) to 22% (one at a time) match.

    Of 400 at 5%, more than 32 come with probability 0.004; the seed is fixed. benchmarks/looks.py has 10,000."""
    generator, wrong = np.random.default_rng(first), 0
    for _ in range(400):
        differences = draw(generator, 200) - 0.005
        n = first
        while n <= 200:
            sample = differences[:n]
            test = (margin_test if n == first else sequential_test)(sample, 0.005)
            if min(test.not_worse, test.worse) < FIRST_LOOK:
                wrong += test.not_worse < FIRST_LOOK
                break
            if isinstance(more, int):
                n += max(more, n // 8)  # ever rarer, as each look takes time
            else:
                needed = seeds_to_decide(sample.mean(), sample.std(ddof=1), 0.005)
                n = 201 if needed is None else max(needed, n + 1)
    assert wrong <= 32
