"""Which score a table holds, and in which direction it is better."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from lth.errors import LthError
from lth.store.score_columns import SCORES_OF, scores_in

if TYPE_CHECKING:
    from lth.objectives import Score


def score_named(name: str) -> Score:
    """The score of that name. LthError if none is registered here: nothing says then how it is read."""
    from lth.objectives import SCORES  # here: tables are read without torch

    if name not in SCORES:
        raise LthError(
            f"the score {name!r} is not registered here, so nothing says whether more of it is better: import the "
            "module that registers it, or name the experiment by its file, which imports it"
        )
    return SCORES[name]


def single_score(table: pa.Table) -> Score:
    """The only score of a table of levels, metrics, summaries or verdicts, accuracy where it names none; `LthError` if
    there are several."""
    names = scores_in(table)
    if len(names) > 1:
        raise LthError(f"the table holds several scores ({', '.join(names)}): filter it to one to look at")
    return score_named(names[0] if names else "accuracy")


def names_by_experiment(table: pa.Table) -> dict[str, str]:
    """Experiment -> the name of its score; `LthError` for an experiment that has several."""
    found: dict[str, str] = {}
    for experiment_id in sorted(pc.unique(table["experiment_id"]).to_pylist()):
        names = scores_in(table.filter(pc.equal(table["experiment_id"], experiment_id)))
        if len(names) > 1:
            raise LthError(f"{experiment_id} holds several scores ({', '.join(names)}); an experiment has one")
        found[experiment_id] = names[0]
    return found


def turned(table: pa.Table, column: str) -> float:
    """1, or -1 for a column of a score where less is better: what makes a difference positive where it is better."""
    return 1.0 if column not in SCORES_OF or single_score(table).higher_is_better else -1.0
