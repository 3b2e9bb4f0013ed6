"""Which tickets match, down to which density, and how sure that is.

Every arm of every level is compared, paired by seed, with the dense network (level 0) and with each other arm but the
ticket at its own level. The verdict is that of a non-inferiority test at the margin that the experiment declared:

    matching      the arm is not worse by more than the margin
    not matching  it is worse by more than the margin (the same test the other way round)
    undecided     neither can be said; `more_seeds` says how many more would probably decide it

The seeds that a comparison began with are judged by a one-sided t test (rule `fixed n`). Any others, more of them or a
part, were or could have been looked at again, and are judged by an e-value that is valid at every look (`anytime`; see
`lth.analysis.sequential`). Together they call an arm that is worse by exactly the margin matching with probability 0.05
at most, whenever and however often one looks.

A seed whose training diverged where the other side's finished is a failure of the arm: in the tests it has a
score below the worst there is. Everything else stands beside the verdict and never decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lth.analysis.equivalence import FIRST_LOOK, MarginTest, holm, margin_test
from lth.analysis.intervals import bootstrap_interval, mean_interval
from lth.analysis.paired import sign_flip_test
from lth.analysis.scores import single_score
from lth.analysis.sequential import confidence_sequence, seeds_to_decide, sequential_difference, sequential_test
from lth.analysis.starts import SweepStart, first_seeds
from lth.analysis.summary import count_diverged, ordered_arms, seed_means, single_experiment, trainings_of_seeds
from lth.errors import LthError
from lth.store.score_columns import with_scores

Side = tuple[int, str]
"""(level, arm)."""

SMALL_DROP = 0.002
"""The accuracy that Frankle et al. (2020) allow a "matching" subnetwork to lose (a fraction)."""

_SCORE, _STEP = "test_score_at_early_stop", "early_stop_step"
_LOG_STEP = "log_early_stop_step"
_MEASURED = [_SCORE, _LOG_STEP, "train_score", "test_score"]
FIXED, ANYTIME = "fixed n", "anytime"
AT_MOST, AT_LEAST, UNBOUNDED = "at most", "at least", "no bound"
_BOOTSTRAP_WORK = 2_000_000  # values drawn a comparison, within the bounds below


def _column(name: str, kind: pa.DataType, about: str, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable, {"description": about})


VERDICTS = pa.schema(
    [
        _column("experiment_id", pa.string(), "the experiment's id", False),
        _column("level", pa.int32(), "times pruned", False),
        _column("density", pa.float64(), "mean fraction (0-1) of the arm's prunable weights that remain"),
        _column("arm", pa.string(), "what is judged", False),
        _column("against", pa.string(), "the arm that it is compared with", False),
        _column("against_level", pa.int32(), "that arm's level; 0 is the dense network", False),
        _column("n", pa.int64(), "seeds that finished on both sides (count)", False),
        _column("diverged", pa.int64(), "trainings of the arm that diverged: in no mean (count)", False),
        _column("diverged_against", pa.int64(), "trainings of the other side that diverged (count)", False),
        _column(
            "failed",
            pa.int64(),
            "seeds of which a training of the arm diverged where the other side finished: in the tests they have "
            "a score below the worst there is (count)",
            False,
        ),
        _column("verdict", pa.string(), "matching, not matching or undecided", False),
        _column(
            "rule",
            pa.string(),
            "fixed n: a t test, of the seeds that the comparison began with; anytime: an e-value that is valid at "
            "every look, of any others",
            False,
        ),
        _column(
            "more_seeds",
            pa.int64(),
            "where undecided: about how many more seeds would decide with probability 0.8, by the rule anytime; "
            "null beyond 10,000 or with fewer than two pairs",
        ),
        _column("score", pa.string(), "what they are judged by: accuracy, auroc, r2, or a score of one's own", False),
        _column(
            "margin", pa.float64(), "how much worse still matches, in the score's unit (accuracy: fraction)", False
        ),
        _column(
            "declared",
            pa.bool_(),
            "whether the margin was declared when the experiment first ran; if not, the verdict is post hoc",
            False,
        ),
        _column(
            "difference",
            pa.float64(),
            "mean over seeds of the arm's test score at early stop less the other's (accuracy: fraction); turned "
            "round for a score where less is better: better is positive",
        ),
        _column(
            "low", pa.float64(), "lower end of its 95% t interval; by the rule anytime, of its 95% confidence sequence"
        ),
        _column("high", pa.float64(), "upper end of the same"),
        _column("bootstrap_low", pa.float64(), "lower end of its 95% BCa bootstrap interval; too narrow for few seeds"),
        _column("bootstrap_high", pa.float64(), "upper end of its 95% BCa bootstrap interval"),
        _column("p_not_worse", pa.float64(), "p-value for: not worse by more than the margin; matching below 0.04"),
        _column("p_worse", pa.float64(), "p-value for: worse by more than the margin"),
        _column("p_equivalent", pa.float64(), "p-value for: within the margin on both sides (TOST)"),
        _column(
            "p_different",
            pa.float64(),
            "p-value of the two-sided sign-flip permutation test: any difference; by the rule anytime, of an e-value",
        ),
        _column("p_different_holm", pa.float64(), "p_different adjusted by Holm for the levels of this comparison"),
        _column(
            "speedup",
            pa.float64(),
            "geometric mean over seeds of the other side's early-stop step by the arm's: 2 "
            "means that the arm stops twice as early",
        ),
        _column("speedup_low", pa.float64(), "lower end of its 95% t interval, on logarithms"),
        _column("speedup_high", pa.float64(), "upper end of its 95% t interval, on logarithms"),
        _column("speedup_n", pa.int64(), "seeds in it: both sides stopped after step 0 (count)", False),
        _column(
            "speedup_bound",
            pa.string(),
            "at most, at least or no bound: where a side's validation loss was lowest at its last step, it may have "
            "stopped later; null where the speed-up is as it says",
        ),
        _column("late", pa.int64(), "seeds in it of the arm whose early stop is their last step (count)", False),
        _column("late_against", pa.int64(), "the same of the other side (count)", False),
        _column(
            "generalisation_gap",
            pa.float64(),
            "mean over seeds of the arm's train less its test score at the end (fraction); null for scores that are "
            "not written in percent",
        ),
        _column(
            "within_one_sd",
            pa.bool_(),
            "whether the arm's mean is not below the other's by more than the other's "
            "standard deviation over seeds (Chen et al. 2020); never decides; null where seeds failed",
        ),
        _column(
            "drop_below_02pp",
            pa.bool_(),
            "whether the mean drop is below 0.2 points (Frankle et al. 2020); never decides; null for scores that are "
            "not written in percent, and where seeds failed",
        ),
    ]
)
"""Columns of `verdicts`."""


@dataclass
class _Side:
    """An arm at a level."""

    values: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    """Seed -> [score, log step, train score, test score], means over draws that finished, scores turned so that more is
    better."""
    late: set[int] = field(default_factory=set)
    """Seeds of which a training's early stop is its last step."""
    draws: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Seed -> trainings that finished, and that diverged."""


def verdicts(
    levels: pa.Table,
    margin: float,
    declared: bool = True,
    confidence: float = 0.95,
    starts: Sequence[SweepStart] = (),
) -> pa.Table:
    """One row per level, arm and what it is compared with, in the columns of VERDICTS.

    `levels` holds one experiment. `margin` is in the unit of its score (accuracy: a fraction); `declared` says whether
    it was declared before the experiment first ran. `starts` are those of its sweeps: they tell which seeds were added
    later; without any, all are taken for the first. Draws are averaged within a seed; a training that diverged is
    in no mean and counted. The result is the same every time: random flips and resamples start from a fixed seed.
    Raises LthError for a table of several experiments or a margin that is not above 0.
    """
    experiment_id = single_experiment(levels)
    if not margin > 0:
        raise LthError(f"a margin must be above 0, e.g. 0.005 for half a percentage point; got {margin!r}")
    levels = with_scores(levels)
    score = single_score(levels)
    sign = 1.0 if score.higher_is_better else -1.0
    # Lower than any score by the whole range, so that it counts as a failure where the other side knows nothing, too.
    worst = (-1.0 if score.higher_is_better else -2.0) if score.percent else -math.inf
    sides = _sides(levels, experiment_id, sign)
    diverged = count_diverged(levels)
    densities = _densities(levels)
    arms = ordered_arms(arm for _, arm in densities)
    rows = []
    for arm in arms:
        own_levels = sorted(level for level, name in densities if name == arm and level > 0)
        for against in ["", *(other for other in arms if other not in ("ticket", arm))]:
            family = []
            for level in own_levels:
                other = (level, against) if against else (0, "ticket")
                if other not in densities:
                    continue
                own_side, other_side = sides[level, arm], sides[other]
                seeds = own_side.draws.keys() & other_side.draws.keys()
                began = first_seeds(starts, level, [arm, *([against] if against else [])])
                rule = FIXED if not starts or frozenset(seeds) == began else ANYTIME
                family.append(
                    {
                        "experiment_id": experiment_id,
                        "level": level,
                        "density": densities[level, arm],
                        "arm": arm,
                        "against": other[1],
                        "against_level": other[0],
                        "score": score.name,
                        "margin": margin,
                        "declared": declared,
                        "diverged": diverged.get((experiment_id, level, arm), 0),
                        "diverged_against": diverged.get((experiment_id, *other), 0),
                        "rule": rule,
                        **_compared(own_side, other_side, margin, worst, rule, confidence),
                    }
                )
            adjusted = holm([row["p_different"] for row in family])
            rows += [row | {"p_different_holm": value} for row, value in zip(family, adjusted, strict=True)]
    rows.sort(
        key=lambda row: (row["level"], row["arm"] != "ticket", row["arm"], row["against_level"] != 0, row["against"])
    )
    for row in rows:
        if not score.percent:
            row |= {"generalisation_gap": None, "drop_below_02pp": None}
        row.update({name: None for name, value in row.items() if isinstance(value, float) and math.isnan(value)})
    return pa.Table.from_pylist(rows, VERDICTS.with_metadata({"confidence": str(confidence)}))


def matches_down_to(table: pa.Table, arm: str = "ticket") -> dict[str, Any] | None:
    """The row of `verdicts` against the dense network for the last level to which an arm matches without a gap.

    Levels are tested from the densest on, and the first that does not match ends it: so no correction for their number
    is needed (fixed-sequence testing, Maurer et al. 1995): the claim is wrong only if the first level that is truly
    worse is called matching, and that is one test, valid at every look. None if the first level does not match.
    """
    of_arm = table.filter(pc.and_(pc.equal(table["arm"], arm), pc.equal(table["against_level"], 0)))
    last = None
    for level, row in enumerate(of_arm.sort_by("level").to_pylist(), start=1):
        if row["verdict"] != "matching" or row["level"] != level:  # a level that is not committed was not tested
            break
        last = row
    return last


def first_undecided(table: pa.Table, arm: str = "ticket") -> dict[str, Any] | None:
    """The row against the dense network at which the claim of `matches_down_to` ends because it is undecided there, so
    that more seeds could move it; None where it ends at a level that does not match, or at the last."""
    of_arm = table.filter(pc.and_(pc.equal(table["arm"], arm), pc.equal(table["against_level"], 0)))
    ends: dict[str, Any] | None = next(
        (row for row in of_arm.sort_by("level").to_pylist() if row["verdict"] != "matching"), None
    )
    return ends if ends is not None and ends["verdict"] == "undecided" else None


def _sides(levels: pa.Table, experiment_id: str, sign: float) -> dict[Side, _Side]:
    """Every arm and level, scores times `sign`: more is better."""
    steps = levels[_STEP].cast(pa.float64()).to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):  # step 0 becomes -inf and is left out of speed-ups
        measured = seed_means(levels.append_column(_LOG_STEP, pa.array(np.log(steps))), _MEASURED)
    sides = {
        (level, arm): _Side(draws=draws)
        for (experiment, level, arm), draws in trainings_of_seeds(levels).items()
        if experiment == experiment_id
    }
    values = np.stack([(1.0 if name == _LOG_STEP else sign) * measured[name].to_numpy() for name in _MEASURED], axis=1)
    places = zip(*(measured[name].to_pylist() for name in ("level", "arm", "seed")), strict=True)
    for (level, arm, seed), row in zip(places, values, strict=True):
        sides[level, arm].values[seed] = row
    if "steps" in levels.column_names:
        last = levels.filter(pc.and_(pc.greater(levels["steps"], 0), pc.equal(levels[_STEP], levels["steps"])))
        for level, arm, seed in zip(*(last[name].to_pylist() for name in ("level", "arm", "seed")), strict=True):
            sides[level, arm].late.add(seed)
    return sides


def _densities(levels: pa.Table) -> dict[Side, float | None]:
    means = levels.group_by(["level", "arm"], use_threads=False).aggregate([("density", "mean")]).to_pydict()
    return dict(zip(zip(means["level"], means["arm"], strict=True), means["density_mean"], strict=True))


def _compared(own: _Side, other: _Side, margin: float, worst: float, rule: str, confidence: float) -> dict[str, Any]:
    """What two sides say of each other, over the seeds that they share."""
    gap = float(np.mean([row[2] - row[3] for row in own.values.values()])) if own.values else math.nan
    shared = sorted(own.values.keys() & other.values.keys())
    failed = sorted(seed for seed in own.draws.keys() & other.values.keys() if own.draws[seed][1])
    row: dict[str, Any] = {
        "n": len(shared),
        "failed": len(failed),
        "verdict": "undecided",
        "speedup_n": 0,
        "late": 0,
        "late_against": 0,
        "p_different": math.nan,
        "generalisation_gap": gap,
    }
    if not shared and not failed:
        return row
    pairs = [(_with_failures(own, seed, worst), float(other.values[seed][0])) for seed in sorted({*shared, *failed})]
    a, b = np.array(pairs).T
    test, row["p_different"] = _tests(a, b, margin, rule)
    row |= {"p_not_worse": test.not_worse, "p_worse": test.worse, "p_equivalent": test.equivalent}
    if test.not_worse < FIRST_LOOK:
        row["verdict"] = "matching"
    elif test.worse < FIRST_LOOK:
        row["verdict"] = "not matching"
    elif len(pairs) > 1:
        needed = seeds_to_decide(float((a - b).mean()), float((a - b).std(ddof=1)), margin)
        row["more_seeds"] = None if needed is None else max(needed - len(pairs), 1)
    if not shared:
        return row
    ours, others = (np.stack([side.values[seed] for seed in shared]) for side in (own, other))
    differences = ours[:, 0] - others[:, 0]
    interval = (mean_interval if rule == FIXED else confidence_sequence)(differences, confidence)
    work = max(999, min(9_999, _BOOTSTRAP_WORK // len(shared)))
    bootstrap = bootstrap_interval(differences, confidence, generator=np.random.default_rng(0), resamples=work)
    bounded = math.isfinite(interval.low)
    row |= {
        "difference": interval.mean,
        "low": interval.low if bounded else None,
        "high": interval.high if bounded else None,
        "bootstrap_low": bootstrap.low,
        "bootstrap_high": bootstrap.high,
    }
    if not failed:
        row["drop_below_02pp"] = interval.mean > -SMALL_DROP
        if len(shared) > 1:
            row["within_one_sd"] = bool(interval.mean >= -others[:, 0].std(ddof=1))
    learnt = np.isfinite(ours[:, 1]) & np.isfinite(others[:, 1])
    if learnt.any():
        speed = mean_interval(others[learnt, 1] - ours[learnt, 1], confidence)
        with np.errstate(over="ignore"):
            row |= dict(zip(("speedup", "speedup_low", "speedup_high"), np.exp(speed[:3]).tolist(), strict=True))
        seeds = {seed for seed, counts in zip(shared, learnt, strict=True) if counts}
        late, late_against = len(seeds & own.late), len(seeds & other.late)
        row |= {"speedup_n": speed.n, "late": late, "late_against": late_against}
        if late or late_against:
            row["speedup_bound"] = AT_MOST if not late_against else AT_LEAST if not late else UNBOUNDED
    return row


def _with_failures(side: _Side, seed: int, worst: float) -> float:
    """The seed's mean score over its draws, those that diverged with a score below the worst there is."""
    finished, diverged = side.draws[seed]
    value = float(side.values[seed][0]) if finished else 0.0
    return value if not diverged else (finished * value + diverged * worst) / (finished + diverged)


def _tests(a: NDArray[np.float64], b: NDArray[np.float64], margin: float, rule: str) -> tuple[MarginTest, float]:
    """Of scores [pairs] against the margin, and for any difference. With a score that has no worst, a failure makes the
    mean infinitely bad: then nothing is left to test."""
    if not np.isfinite(a).all():
        return (MarginTest(1.0, 0.0, 1.0) if len(a) > 1 else MarginTest(math.nan, math.nan, math.nan)), 1.0
    if rule == FIXED:
        return margin_test(a - b, margin), sign_flip_test(a, b, "two-sided", np.random.default_rng(0))
    return sequential_test(a - b, margin), sequential_difference(a - b)
