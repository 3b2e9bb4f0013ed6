from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lth.analysis import paired_difference, paired_log_ratio
from lth.analysis.paired import sign_flip_test
from lth.errors import LthError

# Seeds differ a lot (0.5 to 0.9), the differences within a seed little: 0.01, 0.02, 0.03, 0.04, 0.05.
PAIRS = [training for seed in range(5) for training in (
    ("ticket", seed, 0, 3, 0.5 + 0.1 * seed + 0.01 * (seed + 1), 100 * 2**seed),
    ("reinit", seed, 0, 3, 0.5 + 0.1 * seed, 200 * 2**seed),
)]  # fmt: skip
SIDES = ("ticket", 3, "reinit", 3)


def test_difference_by_hand(levels) -> None:
    # mean 0.03, sd 0.0158114, half-width 2.776 * 0.00707107 = 0.019629; unpaired it would be about 0.29.
    result = paired_difference(levels(PAIRS), *SIDES)
    assert result.n == 5 and result.mean == pytest.approx(0.03)
    assert (result.low, result.high) == pytest.approx((0.03 - 0.019629, 0.03 + 0.019629), abs=1e-5)
    assert result.p_value == 2 / 32  # only all + and all - are as far from 0
    assert paired_difference(levels(PAIRS), *SIDES, alternative="greater").p_value == 1 / 32
    assert paired_difference(levels(PAIRS), *SIDES, alternative="less").p_value == 1
    assert paired_difference(levels(PAIRS), "reinit", 3, "ticket", 3).mean == pytest.approx(-0.03)


def test_pairs_by_seed_whatever_the_order_of_rows(levels) -> None:
    table = levels(PAIRS)
    for seed in range(5):
        shuffled = table.take(np.random.default_rng(seed).permutation(10))
        assert paired_difference(shuffled, *SIDES) == paired_difference(table, *SIDES)


def test_draws_are_averaged_within_a_seed(levels) -> None:
    table = levels([
        ("ticket", 0, 0, 1, 0.9, 10), ("ticket", 1, 0, 1, 0.9, 10),
        ("reinit", 0, 0, 1, 0.8, 10), ("reinit", 0, 1, 1, 0.6, 10), ("reinit", 1, 0, 1, 0.8, 10),
    ])  # fmt: skip
    result = paired_difference(table, "ticket", 1, "reinit", 1)
    assert (result.n, result.mean) == (2, pytest.approx((0.2 + 0.1) / 2))


def test_levels_may_differ_and_diverged_or_unshared_seeds_do_not_enter(levels) -> None:
    table = levels([
        ("ticket", 0, 0, 0, 0.90, 10), ("ticket", 1, 0, 0, 0.90, 10), ("ticket", 2, 0, 0, 0.90, 10),
        ("ticket", 0, 0, 4, 0.95, 10), ("ticket", 1, 0, 4, None, None), ("ticket", 7, 0, 4, 0.1, 10),
    ])  # fmt: skip
    result = paired_difference(table, "ticket", 4, "ticket", 0)
    assert (result.n, result.mean, result.p_value) == (1, pytest.approx(0.05), 1)
    assert math.isnan(result.low) and math.isnan(result.high)


def test_no_shared_seed_names_both_sides(levels) -> None:
    table = levels([("ticket", 0, 0, 1, 0.9, 10), ("reinit", 1, 0, 2, 0.9, 10)])
    with pytest.raises(LthError, match=r"'ticket' at level 1 \(1 seeds\) and 'reinit' at level 2 \(1 seeds\)"):
        paired_difference(table, "ticket", 1, "reinit", 2)
    with pytest.raises(LthError, match=r"'nosuch' at level 2 \(0 seeds\)"):
        paired_difference(table, "ticket", 1, "nosuch", 2)


def test_two_experiments_are_refused(levels) -> None:
    with pytest.raises(LthError, match=r"2 experiments \(a-0, b-1\)"):
        paired_difference(pa.concat_tables([levels(PAIRS, "a-0"), levels(PAIRS, "b-1")]), *SIDES)


@settings(max_examples=30)
@given(st.lists(st.integers(-300, 300).map(lambda count: count / 10_000), min_size=2, max_size=9),
       st.sampled_from(["two-sided", "greater", "less"]))  # fmt: skip
def test_exact_p_value_agrees_with_scipy(differences: list[float], alternative) -> None:
    # Differences of accuracies over 10,000 images: ties are common.
    a, b = 0.9 + np.array(differences), np.full(len(differences), 0.9)
    counts = np.rint(1e4 * (a - b))
    reference = stats.permutation_test(
        (counts,), np.sum, permutation_type="samples", alternative=alternative, n_resamples=np.inf, vectorized=True
    ).pvalue
    # scipy doubles the smaller tail, which for this symmetric statistic is the two-sided tail unless it passes 1.
    assert sign_flip_test(a, b, alternative, None) == pytest.approx(min(1, reference))


def test_many_seeds_use_random_flips_from_the_generator(levels) -> None:
    noise = np.random.default_rng(5).normal(0.001, 0.004, 24)
    table = levels([row for seed in range(24) for row in (
        ("ticket", seed, 0, 3, 0.9 + noise[seed], 100), ("reinit", seed, 0, 3, 0.9, 100))])  # fmt: skip
    with pytest.raises(LthError, match=r"24 seeds.*generator"):
        paired_difference(table, *SIDES)
    first = paired_difference(table, *SIDES, generator=np.random.default_rng(0)).p_value
    assert first == paired_difference(table, *SIDES, generator=np.random.default_rng(0)).p_value
    # For 24 seeds the normal approximation of the flipped sum is good: z = sum / sqrt(sum of squares).
    z = noise.sum() / math.sqrt((noise**2).sum())
    assert 0.01 < first < 0.99 and first == pytest.approx(2 * stats.norm.sf(abs(z)), abs=0.02)
    clear = levels([row for seed in range(24) for row in (
        ("ticket", seed, 0, 3, 0.95, 100), ("reinit", seed, 0, 3, 0.9, 100))])  # fmt: skip
    assert paired_difference(clear, *SIDES, generator=np.random.default_rng(0)).p_value == 1 / 20_001


def test_exact_and_random_agree_where_they_meet() -> None:
    # The same 16 differences by enumeration, and as 17 with a difference of 0, which no flip changes, at random.
    a = np.random.default_rng(2).normal(0.2, 0.5, 16)
    exact = sign_flip_test(a, np.zeros(16), "two-sided", None)
    random = sign_flip_test(np.append(a, 0), np.zeros(17), "two-sided", np.random.default_rng(0))
    assert 0.01 < exact < 0.9 and random == pytest.approx(exact, abs=0.015)


def test_equal_arms_give_p_of_one(levels) -> None:
    table = levels([row for seed in range(4) for row in (
        ("ticket", seed, 0, 3, 0.9, 100), ("reinit", seed, 0, 3, 0.9, 100))])  # fmt: skip
    assert paired_difference(table, *SIDES) == (0, 0, 0, 4, 1)


def test_ratio_by_hand(levels) -> None:
    # ratios 2, 4 and 8: geometric mean 4; logs sd ln 2, t(2, 0.975) = 4.303, half-width 4.303 * ln 2 / sqrt 3.
    table = levels(
        [
            row
            for seed, ratio in enumerate((2, 4, 8))
            for row in (
                ("reinit", seed, 0, 3, 0.9, 100 * (seed + 1) * ratio),
                ("ticket", seed, 0, 3, 0.9, 100 * (seed + 1)),
            )
        ]
    )
    result = paired_log_ratio(table, "reinit", 3, "ticket", 3)
    half = 4.303 * math.log(2) / math.sqrt(3)
    assert (result.n, result.zeros, result.ratio) == (3, 0, pytest.approx(4))
    assert (result.low, result.high) == pytest.approx((4 * math.exp(-half), 4 * math.exp(half)), rel=1e-3)
    assert result.p_value == 2 / 8
    inverse = paired_log_ratio(table, "ticket", 3, "reinit", 3)
    assert (inverse.ratio, inverse.low, inverse.high) == pytest.approx((1 / 4, 1 / result.high, 1 / result.low))


def test_ratio_averages_the_logarithms_of_draws(levels) -> None:
    # draws 100 and 400: geometric mean 200
    table = levels([("reinit", 0, 0, 1, 0.9, 100), ("reinit", 0, 1, 1, 0.9, 400), ("ticket", 0, 0, 1, 0.9, 100)])
    assert paired_log_ratio(table, "reinit", 1, "ticket", 1).ratio == pytest.approx(2)


def test_pairs_with_a_step_of_zero_are_counted_and_left_out(levels) -> None:
    table = levels([
        ("reinit", 0, 0, 1, 0.9, 300), ("reinit", 1, 0, 1, 0.9, 0), ("reinit", 1, 1, 1, 0.9, 50),
        ("reinit", 2, 0, 1, 0.9, 10),
        ("ticket", 0, 0, 1, 0.9, 100), ("ticket", 1, 0, 1, 0.9, 100), ("ticket", 2, 0, 1, 0.9, 0),
    ])  # fmt: skip
    result = paired_log_ratio(table, "reinit", 1, "ticket", 1)
    assert (result.ratio, result.n, result.zeros) == (pytest.approx(3), 1, 2)


def test_ratios_that_do_not_exist_are_refused(levels) -> None:
    zero = levels([("reinit", 0, 0, 1, 0.9, 0), ("ticket", 0, 0, 1, 0.9, 100)])
    with pytest.raises(LthError, match="early_stop_step is 0 for every seed shared by 'reinit' at level 1"):
        paired_log_ratio(zero, "reinit", 1, "ticket", 1)
    negative = levels([("reinit", 0, 0, 1, 0.9, -5), ("ticket", 0, 0, 1, 0.9, 100)])
    with pytest.raises(LthError, match="negative"):
        paired_log_ratio(negative, "reinit", 1, "ticket", 1)


def test_unknown_alternative_is_refused(levels) -> None:
    with pytest.raises(LthError, match="'bigger'"):
        paired_difference(levels(PAIRS), *SIDES, alternative="bigger")  # type: ignore[arg-type]
