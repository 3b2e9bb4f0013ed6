"""Tables of accuracies turned into those of another score, and a score of which less is better."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from lth.objectives import SCORES, Score, register_score
from lth.store import with_scores
from lth.store.score_columns import SCORES_OF


def scored(table: pa.Table, score: str, value: Callable[[float], float] = lambda value: value) -> pa.Table:
    """The table with `score` in place of accuracy: `value` makes one of its values of an accuracy."""
    table = with_scores(table)
    for name, accuracy in SCORES_OF.items():
        if name in table.column_names:
            values = [None if each is None else value(each) for each in table[name].to_pylist()]
            table = _put(table, name, pa.array(values, pa.float64()))
            table = _put(table, accuracy, pa.nulls(table.num_rows, pa.float64()))
    return _put(table, "score", pa.array([score] * table.num_rows))


@contextmanager
def less_is_better(name: str = "rmse") -> Iterator[Score]:
    """A registered score whose unit is that of some target."""
    score = Score(name, "RMSE", higher_is_better=False, percent=False, of_split=lambda outputs, targets: outputs[:, 0])
    try:
        yield register_score(score, "Root of the mean squared error, in the target's unit.")
    finally:
        SCORES._entries.pop(name)


def _put(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
