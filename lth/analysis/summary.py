"""From one row per training to one row per level and arm: means over seeds with their intervals.

Two rules hold everywhere in this room. The seed is the replicate: several draws of a control for one seed are averaged
first, so n counts seeds. And a training that diverged is counted and never averaged.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lth.analysis.intervals import mean_interval
from lth.analysis.scores import names_by_experiment
from lth.errors import LthError
from lth.store.score_columns import ACCURACY, SCORES_OF, with_scores

_GROUP = ["experiment_id", "level", "arm"]
_SEED = [*_GROUP, "seed"]
_TRAINING = [*_SEED, "draw"]
_INTERVALS = ("test_score_at_early_stop", "early_stop_step")
_PARTS = ("mean", "low", "high")

SUMMARY_SCHEMA = pa.schema(
    [
        pa.field("experiment_id", pa.string(), nullable=False),
        pa.field("level", pa.int64(), nullable=False),
        pa.field("density", pa.float64()),
        pa.field("weights_remaining", pa.float64()),
        pa.field("arm", pa.string(), nullable=False),
        pa.field("seeds", pa.int64(), nullable=False),
        pa.field("diverged", pa.int64(), nullable=False),
        pa.field("score", pa.string(), nullable=False),
        *(pa.field(f"{column}_{part}", pa.float64()) for column in _INTERVALS for part in _PARTS),
        pa.field("test_score_mean", pa.float64()),
        *(pa.field(f"test_accuracy_at_early_stop_{part}", pa.float64()) for part in _PARTS),
        pa.field("test_accuracy_mean", pa.float64()),
    ]
)
"""Columns of `summarise`. `seeds`: the n of the means; `diverged`: trainings (seed and draw) left out of them.
`score`: what `test_score…` are of; where it is accuracy, `test_accuracy…` are the same, elsewhere null. Accuracies and
densities are fractions, steps are iterations; null where no seed, or for low and high one seed, is left.
`density` and `weights_remaining` are means too: under global scope, seeds of one level can differ a little."""


def summarise(levels: pa.Table, confidence: float = 0.95) -> pa.Table:
    """One row per experiment, level and arm, in the columns of `SUMMARY_SCHEMA`, the ticket first in each level.

    `levels`: the table of that name, or one of accuracies alone; one row per training (experiment, arm, seed, draw,
    level), in any order; a training that two units hold counts once. The arm `ticket` at level 0 is the dense
    network. Means and t intervals are over seeds, after averaging the draws of a seed that did not diverge. The
    table's metadata carries `confidence`. Raises `LthError` for a missing column or an unmeasured training that is
    called `ok`.
    """
    measured = [*_INTERVALS, "test_score"]
    per_seed = seed_means(levels, measured)
    means = {column: _lists(per_seed, column) for column in measured}
    # The mask is known before the training, so a seed that diverges still tells its density.
    masks = _average_draws(levels, ["density", "weights_remaining"])
    densities, weights = _lists(masks, "density"), _lists(masks, "weights_remaining")
    diverged = count_diverged(levels)
    scores = names_by_experiment(levels)

    rows: list[dict[str, Any]] = []
    for group in _ordered(densities):
        row: dict[str, Any] = dict(zip(_GROUP, group, strict=True))
        row |= {"density": _mean(densities[group]), "weights_remaining": _mean(weights[group])}
        row |= {"seeds": len(means["test_score"].get(group, [])), "diverged": diverged.get(group, 0)}
        row["score"] = scores[group[0]]
        if row["seeds"]:
            for column in _INTERVALS:
                interval = mean_interval(means[column][group], confidence)
                row |= {f"{column}_mean": interval.mean, f"{column}_low": _or_null(interval.low)}
                row[f"{column}_high"] = _or_null(interval.high)
            row["test_score_mean"] = _mean(means["test_score"][group])
            if row["score"] == ACCURACY:
                row |= {name.replace("score", ACCURACY): row[name] for name in row if name.startswith("test_score")}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=SUMMARY_SCHEMA.with_metadata({"confidence": str(confidence)}))


def seed_means(levels: pa.Table, columns: Sequence[str]) -> pa.Table:
    """`columns` averaged over the draws of each seed that did not diverge, sorted by experiment, level, arm and seed.

    Returns experiment_id, level, arm, seed and `columns` as float64; a seed whose every draw diverged has no row. The
    result does not depend on the order of the rows of `levels`, to the bit. Raises `LthError` for a missing column,
    an unknown status, or a null or nan in a training whose status is `ok`.
    """
    levels = with_scores(levels)
    require_columns(levels, [*_TRAINING, "status", *columns])
    if unknown := set(pc.unique(levels["status"]).to_pylist()) - {"ok", "diverged"}:
        raise LthError(f"unknown status {sorted(map(str, unknown))} in the levels table: expected 'ok' or 'diverged'")
    finished = levels.filter(pc.equal(levels["status"], "ok"))
    for column in columns:
        # A silent skip would shrink n for one column only.
        missing = pc.is_null(finished[column], nan_is_null=True)
        if pc.any(missing).as_py():
            first = finished.filter(missing).slice(0, 1).to_pylist()[0]
            name = SCORES_OF.get(column, column) if first.get("score") == ACCURACY else column
            raise LthError(
                f"{name} is missing for arm {first['arm']!r}, level {first['level']}, seed "
                f"{first['seed']}, although its status is 'ok': train that unit again"
            )
    return _average_draws(finished, columns)


def single_experiment(table: pa.Table) -> str:
    """The id of the only experiment of a levels or summary table; `LthError` if there is none or several."""
    require_columns(table, ["experiment_id"])
    identifiers = sorted(pc.unique(table["experiment_id"]).to_pylist())
    if len(identifiers) != 1:
        content = f"{len(identifiers)} experiments ({', '.join(identifiers)})" if identifiers else "no rows"
        raise LthError(f"the table holds {content}: filter it to the one experiment_id to look at")
    return str(identifiers[0])


def ordered_arms(arms: Iterable[str]) -> list[str]:
    """Each arm once, the ticket first, then by name: the order of rows, columns and legends."""
    return sorted(set(arms), key=lambda arm: (arm != "ticket", arm))


def require_columns(table: pa.Table, columns: Collection[str]) -> None:
    """Raises `LthError` naming the columns that `table` lacks."""
    if absent := [column for column in columns if column not in table.column_names]:
        raise LthError(f"the table has no column {', '.join(absent)}; it has {', '.join(table.column_names)}")


def _average_draws(levels: pa.Table, columns: Sequence[str]) -> pa.Table:
    require_columns(levels, [*_TRAINING, *columns])
    # Sorted and on one thread, so that sums are added in one order whatever the order of the rows.
    table = levels.select([*_TRAINING, *columns]).sort_by([(key, "ascending") for key in _TRAINING])
    for keys in (_TRAINING, _SEED):  # first the training that two units hold, then the draws of a seed
        table = table.group_by(keys, use_threads=False).aggregate([(column, "mean") for column in columns])
        table = table.select([*keys, *(f"{column}_mean" for column in columns)]).rename_columns([*keys, *columns])
    return table


def _lists(per_seed: pa.Table, column: str) -> dict[tuple[Any, ...], list[Any]]:
    """The seeds' values of `column` by (experiment, level, arm)."""
    grouped = per_seed.group_by(_GROUP, use_threads=False).aggregate([(column, "list")]).to_pydict()
    groups = zip(*(grouped[key] for key in _GROUP), strict=True)
    return dict(zip(groups, grouped[f"{column}_list"], strict=True))


def count_diverged(levels: pa.Table) -> dict[tuple[Any, ...], int]:
    trainings = levels.filter(pc.equal(levels["status"], "diverged")).group_by(_TRAINING).aggregate([])
    counted = trainings.group_by(_GROUP).aggregate([("seed", "count")]).to_pydict()
    return dict(zip(zip(*(counted[key] for key in _GROUP), strict=True), counted["seed_count"], strict=True))


def trainings_of_seeds(levels: pa.Table) -> dict[tuple[Any, ...], dict[int, tuple[int, int]]]:
    """(experiment, level, arm) -> seed -> how many of its draws finished, and how many diverged."""
    found: dict[tuple[Any, ...], dict[int, tuple[int, int]]] = {}
    trainings = levels.group_by([*_TRAINING, "status"]).aggregate([]).to_pydict()
    for *group, seed, status in zip(*(trainings[key] for key in (*_SEED, "status")), strict=True):
        finished, diverged = found.setdefault(tuple(group), {}).get(seed, (0, 0))
        found[tuple(group)][seed] = (finished + (status == "ok"), diverged + (status == "diverged"))
    return found


def _ordered(groups: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(groups, key=lambda group: (group[0], group[1], group[2] != "ticket", group[2]))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value
