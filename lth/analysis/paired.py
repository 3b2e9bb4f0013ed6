"""Comparisons paired by seed.

The arms of a seed share their initialisation, data order and split, so most of what makes seeds differ cancels in the
difference within a seed. Only seeds that finished on both sides enter; n says how many those are.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lth.analysis.intervals import mean_interval
from lth.analysis.scores import turned
from lth.analysis.summary import require_columns, seed_means, single_experiment
from lth.errors import LthError

Alternative = Literal["two-sided", "greater", "less"]

EXACT_UP_TO = 16
"""Seeds up to which all 2^n sign flips are enumerated."""
RANDOM_FLIPS = 20_000


class PairedDifference(NamedTuple):
    """Mean over seeds of a - b, in the unit of the column, with its t interval (nan ends for one pair).

    Of a score it is positive where a is better."""

    mean: float
    low: float
    high: float
    n: int
    """Seeds that finished on both sides."""
    p_value: float
    """Of the sign-flip permutation test."""


class PairedRatio(NamedTuple):
    """Geometric mean over seeds of a / b, with its interval (nan ends for one pair)."""

    ratio: float
    low: float
    high: float
    n: int
    """Seeds that finished on both sides with values above 0."""
    p_value: float
    """Of the sign-flip permutation test on the log ratios."""
    zeros: int
    """Pairs left out because a side has a value of 0."""


def paired_difference(
    levels: pa.Table,
    arm_a: str,
    level_a: int,
    arm_b: str,
    level_b: int,
    column: str = "test_score_at_early_stop",
    *,
    confidence: float = 0.95,
    alternative: Alternative = "two-sided",
    generator: np.random.Generator | None = None,
) -> PairedDifference:
    """`column` of (arm_a, level_a) minus that of (arm_b, level_b), paired by seed, draws averaged within a seed.

    For a column of the score better is positive: where less is better it is (arm_b, level_b) minus (arm_a, level_a).
    `levels` holds one experiment; the dense network is `("ticket", 0)`. The interval is Student's t on the
    differences. The p-value is of the sign-flip permutation test (Fisher 1935): exact up to 16 seeds, else from
    20,000 random flips, for which `generator` is required. `alternative` "greater" asks whether a exceeds b. Mind
    that five seeds cannot give a two-sided p below 2/32. Raises `LthError` if no seed is shared.

    A control that diverges on its worst seeds is compared on the seeds it survived, which flatters it: read n.
    """
    sign = turned(levels, column)
    a, b = (sign * side for side in _pairs(levels, arm_a, level_a, arm_b, level_b, column))
    interval = mean_interval(a - b, confidence)
    return PairedDifference(*interval, sign_flip_test(a, b, alternative, generator))


def paired_log_ratio(
    levels: pa.Table,
    arm_a: str,
    level_a: int,
    arm_b: str,
    level_b: int,
    column: str = "early_stop_step",
    *,
    confidence: float = 0.95,
    alternative: Alternative = "two-sided",
    generator: np.random.Generator | None = None,
) -> PairedRatio:
    """The ratio of `column` of (arm_a, level_a) to that of (arm_b, level_b): 2 means that a stops twice as late.

    Logarithms are averaged over draws and differenced within a seed; their mean and t interval are then raised to the
    power of e. A step of 0 (validation loss was never lower than before training) has no logarithm. Such a pair is left
    out and counted in `zeros` rather than moved to some positive step, because the choice of that step would decide
    the result; where `zeros` is not 0, the ratio is about the seeds that learnt. Otherwise as `paired_difference`;
    raises `LthError` also for negative values and if every shared seed has a 0.
    """
    require_columns(levels, [column])
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithms = np.log(levels[column].cast(pa.float64()).to_numpy())
    index = levels.column_names.index(column)
    on_log = levels.set_column(index, column, pa.array(logarithms))
    if pc.any(pc.less(levels[column], 0)).as_py():
        raise LthError(f"{column} has negative values: a ratio needs values that cannot be below 0")
    a, b = _pairs(on_log, arm_a, level_a, arm_b, level_b, column)
    positive = np.isfinite(a) & np.isfinite(b)  # ln 0 = -inf, and a mean with it too
    if not positive.any():
        raise LthError(
            f"{column} is 0 for every seed shared by {arm_a!r} at level {level_a} and {arm_b!r} at level "
            f"{level_b}: there is no ratio; compare them with paired_difference"
        )
    a, b = a[positive], b[positive]
    interval = mean_interval(a - b, confidence)
    p_value = sign_flip_test(a, b, alternative, generator)
    with np.errstate(over="ignore"):  # two seeds far apart: an upper end of infinity says it well
        ratio, low, high = np.exp(interval[:3]).tolist()
    return PairedRatio(ratio, low, high, interval.n, p_value, int(np.count_nonzero(~positive)))


def _pairs(
    levels: pa.Table, arm_a: str, level_a: int, arm_b: str, level_b: int, column: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The values of both sides [pairs], seeds in increasing order."""
    single_experiment(levels)
    require_columns(levels, ["arm", "level"])
    sides: list[dict[int, float]] = []
    for arm, level in ((arm_a, level_a), (arm_b, level_b)):
        rows = levels.filter(pc.and_(pc.equal(levels["arm"], arm), pc.equal(levels["level"], level)))
        means = seed_means(rows, [column])
        sides.append(dict(zip(means["seed"].to_pylist(), means[column].to_pylist(), strict=True)))
    first, second = sides
    shared = sorted(first.keys() & second.keys())
    if not shared:
        raise LthError(
            f"no seed finished both {arm_a!r} at level {level_a} ({len(first)} seeds) and {arm_b!r} at level {level_b} "
            f"({len(second)} seeds): train both arms at those levels on the same seeds"
        )
    return np.array([first[seed] for seed in shared]), np.array([second[seed] for seed in shared])


def sign_flip_test(
    a: NDArray[np.float64], b: NDArray[np.float64], alternative: Alternative, generator: np.random.Generator | None
) -> float:
    """P-value of the hypothesis that a - b [pairs] is as likely to have either sign in every seed (Fisher 1935).

    Exact up to 16 pairs; `generator` is needed beyond. The statistic is the sum of the differences. Random flips count
    the data as one of them, so that the test keeps its level (Phipson & Smyth 2010).
    """
    if alternative not in ("two-sided", "greater", "less"):
        raise LthError(f"unknown alternative {alternative!r}: choose 'two-sided', 'greater' or 'less'")
    differences = a - b
    n = differences.size
    if n <= EXACT_UP_TO:
        sums = np.zeros(1)
        for difference in differences:
            sums = np.concatenate([sums + difference, sums - difference])
        itself = 0
    elif generator is None:
        raise LthError(
            f"{n} seeds are too many to enumerate every sign flip: pass generator=numpy.random.default_rng(<seed>)"
        )
    else:
        blocks = (
            generator.integers(0, 2, (min(1000, RANDOM_FLIPS - start), n), dtype=np.int8)
            for start in range(0, RANDOM_FLIPS, 1000)
        )
        sums = np.concatenate([(2 * block - 1) @ differences for block in blocks])
        itself = 1
    # Accuracies are counts over a test set, so sums tie often; rounding must not break a tie, and metrics were
    # computed in single precision. Counting too many ties only makes the test more careful.
    tie = n * np.finfo(np.float32).eps * max(np.abs(a).max(), np.abs(b).max())
    observed = differences.sum()
    if alternative == "two-sided":
        sums, observed = np.abs(sums), abs(observed)
    extreme = sums <= observed + tie if alternative == "less" else sums >= observed - tie
    return float((np.count_nonzero(extreme) + itself) / (sums.size + itself))
