"""The rows of a query as Arrow: every column under a name of its own, and no value changed on the way.

DuckDB has types that Arrow, Parquet or Python have not. Handed over as they are, an unsigned integer of 128 bits
becomes -1, a time loses its zone, a BIT becomes bytes, and an infinite date ends whoever reads it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

LARGE_INTEGERS = ("HUGEINT", "UHUGEINT")
AS_TEXT = r"\b(?:UHUGEINT|BIGNUM|VARINT|BIT|INTERVAL|TIME WITH TIME ZONE|TIMETZ|TIME_NS|GEOMETRY|VARIANT)\b"
"""Types that are text in the result, as DuckDB writes them: `1 month 3 days`, `01:02:03+02`, `0101`."""


def as_arrow(relation: DuckDBPyRelation) -> pa.Table:
    """The rows of a relation. Integers of 128 bits are int64 if all of a column fit, else decimals of 39 digits; types
    of AS_TEXT, unions, and dates that Python has not (infinite, or beyond the years 1 to 9999) are text."""
    types = [str(kind) for kind in relation.types]
    names = distinct(relation.columns)
    casts = [_cast(kind) for kind in types]
    table = _taken(relation, names, casts)
    beyond = [position for position, column in enumerate(table.columns) if _beyond_python(column)]
    if beyond:
        casts = ["VARCHAR" if position in beyond else cast for position, cast in enumerate(casts)]
        table = _taken(relation, names, casts)
    for position, kind in enumerate(types):
        if kind in LARGE_INTEGERS:
            table = table.set_column(position, names[position], _integers(table.column(position)))
    return table


def distinct(names: Sequence[str]) -> list[str]:
    """The names, where one stands twice with a number after it: n, n_1, n_2."""
    found: list[str] = []
    for name in names:
        number, free = 0, name
        while free in found or (number and free in names):
            number += 1
            free = f"{name}_{number}"
        found.append(free)
    return found


def _cast(kind: str) -> str | None:
    """The type in SQL that a column is cast to; None where it is handed over as it is."""
    if kind in LARGE_INTEGERS or re.search(r"\bUNION\(", _outside_quotes(kind)):
        return "VARCHAR"
    parts = re.split(r"""("(?:[^"]|"")*"|'(?:[^']|'')*')""", kind)  # names and values of enums stand in quotes
    said = "".join(part if at % 2 else re.sub(AS_TEXT, "VARCHAR", part) for at, part in enumerate(parts))
    return None if said == kind else said


def _outside_quotes(kind: str) -> str:
    return re.sub(r"""("(?:[^"]|"")*"|'(?:[^']|'')*')""", "", kind)


def _taken(relation: DuckDBPyRelation, names: Sequence[str], casts: Sequence[str | None]) -> pa.Table:
    if any(casts):
        columns = (f"CAST(#{place} AS {cast})" if cast else f"#{place}" for place, cast in enumerate(casts, 1))
        quoted = ('"' + name.replace('"', '""') + '"' for name in names)
        relation = relation.project(", ".join(map(" AS ".join, zip(columns, quoted, strict=True))))
    return relation.to_arrow_table().rename_columns(list(names))


def _beyond_python(column: pa.ChunkedArray) -> bool:
    if not (pa.types.is_date(column.type) or pa.types.is_timestamp(column.type)):
        return False
    try:
        pc.min_max(column).as_py()
    except (OverflowError, ValueError):
        return True
    return False


def _integers(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return texts.cast(pa.int64())
    except pa.ArrowInvalid:
        return texts.cast(pa.decimal256(39, 0))
