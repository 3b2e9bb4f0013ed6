"""What tables say of their score: its name and its values, beside the accuracies that they began with.

Readers always see `score` and the columns of scores. Written down they are only where the score is another than
accuracy: accuracies have columns of their own, and what was stored before there were other scores stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pyarrow as pa
import pyarrow.compute as pc

from lth.errors import StoreError
from lth.store.origin_columns import tells_origin, without_origin

ACCURACY = "accuracy"
NAME = "score"
SCORES_OF = {
    "train_score": "train_accuracy",
    "val_score_at_early_stop": "val_accuracy_at_early_stop",
    "test_score_at_early_stop": "test_accuracy_at_early_stop",
    "val_score": "val_accuracy",
    "test_score": "test_accuracy",
    "score_value": "accuracy",
}
"""Column of a score -> the column that holds it where the score is accuracy, and is null elsewhere."""

_STORED_DESCRIPTIONS = {
    "train_loss": "mean training loss at the end (nats)",
    "test_loss": "mean test loss at the end (nats)",
    "loss": "mean loss over the split (nats); null where it is not finite",
}
"""As objects have said it since version 1: the same bytes as ever."""


def with_scores(table: pa.Table) -> pa.Table:
    """The table with `score` and, for each column of accuracy that it has, the one of the score.

    Rows that name no score are scored by accuracy: their values are those of the accuracies. A table without accuracies
    comes back as it is.
    """
    pairs = [(name, accuracy) for name, accuracy in SCORES_OF.items() if accuracy in table.column_names]
    if not pairs:
        return table
    table = _with(table, NAME, _names(table))
    for name, accuracy in pairs:
        values = table[accuracy]
        table = _with(table, name, pc.coalesce(table[name], values) if name in table.column_names else values)
    return table


def scores_in(table: pa.Table) -> list[str]:
    """The names of the scores that its rows have, sorted."""
    return sorted(pc.unique(_names(table)).to_pylist()) if table.num_rows else []


def as_stored(table: pa.Table) -> pa.Table:
    """The table as it is written: without the columns of scores where all its rows are scored by accuracy, and without
    those of what it was computed with where none says it."""
    schema = stored_schema(table.schema, scored=is_scored(table))
    if not tells_origin(table):
        schema = without_origin(schema)
    return pa.Table.from_arrays([table[name] for name in schema.names], schema=schema)


def is_scored(table: pa.Table) -> bool:
    """Whether it holds other scores than accuracy, in columns of their own."""
    return NAME in table.column_names and scores_in(table) not in ([], [ACCURACY])


def stored_schema(schema: pa.Schema, *, scored: bool) -> pa.Schema:
    """The columns as they are written, with or without those of scores."""
    if NAME not in schema.names:
        return schema
    fields = []
    for field in schema:
        if field.name in _STORED_DESCRIPTIONS:
            field = field.with_metadata({"description": _STORED_DESCRIPTIONS[field.name]})
        elif field.name == NAME:
            field = field.with_nullable(True)  # curated tables hold rows of both kinds
        if scored or field.name not in (NAME, *SCORES_OF):
            fields.append(field)
    return pa.schema(fields, metadata=schema.metadata)


def columns_in_sql(names: Iterable[str], present: Collection[str]) -> str:
    """What `with_scores` does, as the columns of a SELECT over a table that has the columns `present`, so that it can
    be scanned where it lies."""
    selected = []
    for name in names:
        instead = f"'{ACCURACY}'" if name == NAME else SCORES_OF.get(name)
        if instead is None:
            selected += [name] if name in present else []
        elif name in present:
            selected.append(f"coalesce({name}, {instead}) AS {name}")
        else:
            selected.append(f"{instead} AS {name}")
    return ", ".join(selected)


def check_scores(table: pa.Table, kind: str) -> None:
    """StoreError where a row of accuracy has another score than its accuracy, or a row of another score has one."""
    of_accuracy = pc.equal(table[NAME], ACCURACY)
    for name, accuracy in SCORES_OF.items():
        if name not in table.column_names:
            continue
        expected = pc.if_else(of_accuracy, table[accuracy], None)
        for column, values in ((accuracy, expected), (name, pc.if_else(of_accuracy, expected, table[name]))):
            differing = pc.not_equal(_comparable(table[column]), _comparable(values))
            if pc.any(differing).as_py():
                row = table.filter(differing).slice(0, 1).to_pylist()[0]
                raise StoreError(
                    f"table {kind}: seed {row['seed']} is scored by {row[NAME]} with {name} {row[name]} and {accuracy} "
                    f"{row[accuracy]}; the latter is null, or the same where the score is {ACCURACY}"
                )


def _comparable(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Null and NaN as numbers that no score is."""
    values = values.cast(pa.float64())
    return pc.fill_null(pc.if_else(pc.is_nan(values), float("inf"), values), float("-inf"))


def _names(table: pa.Table) -> pa.ChunkedArray:
    if NAME in table.column_names:
        return pc.fill_null(table[NAME].cast(pa.string()), ACCURACY)
    lengths = [len(chunk) for chunk in table.column(0).chunks] or [0]
    longest = pa.repeat(pa.scalar(ACCURACY), max(lengths))  # once for all: a table may have 60 million rows
    return pa.chunked_array([longest.slice(0, length) for length in lengths])


def _with(table: pa.Table, name: str, values: pa.ChunkedArray) -> pa.Table:
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, values)
    return table.append_column(name, values)
