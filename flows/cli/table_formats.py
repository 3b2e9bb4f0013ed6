"""The rows of a query as JSON, CSV and Parquet: the same names, values and order in each."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from datetime import date, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from lth.errors import LthError

FORMATS = ("csv", "json", "parquet")


def encoded(found: pa.Table, form: str) -> bytes:
    """The table in one of FORMATS."""
    if form == "parquet":
        buffer = io.BytesIO()
        parquet.write_table(found, buffer, compression="zstd")
        return buffer.getvalue()
    lines = _json_lines(found) if form == "json" else _csv_lines(found)
    return "\n".join([*lines, ""]).encode()


def rows_of(found: pa.Table) -> list[tuple[Any, ...]]:
    """Rows of plain values: maps by text are dicts, other maps lists of pairs."""
    columns = []
    for name, column in zip(found.column_names, found.columns, strict=True):
        plain = _plainer(column.type)
        try:
            columns.append([None if value is None else plain(value) for value in column.to_pylist()])
        except (OverflowError, ValueError):
            raise LthError(
                f"column {name!r} holds a date that is infinite or beyond the year 9999; CAST it AS VARCHAR"
            ) from None
    return list(zip(*columns, strict=True))


def json_of(value: Any) -> str:
    """A plain value as JSON. Numbers are exact; NaN and infinity, which JSON has not, are null; bytes are hex digits;
    dates and times are as in ISO 8601."""
    match value:
        case None | bool() | int():
            return json.dumps(value)
        case float():
            return repr(value) if math.isfinite(value) else "null"
        case Decimal():
            return f"{value:f}" if value.is_finite() else "null"
        case dict():
            return "{" + ", ".join(f"{json.dumps(name)}: {json_of(part)}" for name, part in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(json_of, value)) + "]"
    return json.dumps(text_of(value))


def text_of(value: Any) -> str:
    """A plain value as text, without quotes; lists, structs and maps as JSON; nothing for NULL."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case Decimal():
            return f"{value:f}"
        case bytes():
            return value.hex()
        case date() | time():
            return value.isoformat()
        case dict() | list():
            return json_of(value)
    return str(value)


def _plainer(kind: pa.DataType) -> Callable[[Any], Any]:
    """From what Arrow gives for values of a type to plain ones."""
    if pa.types.is_map(kind):
        key, item = _plainer(kind.key_type), _plainer(kind.item_type)
        by_text = pa.types.is_string(kind.key_type)

        def pairs(value: Any) -> Any:
            found = [[key(name), None if part is None else item(part)] for name, part in value]
            return dict(found) if by_text else found

        return pairs
    if pa.types.is_struct(kind):
        fields = {field.name: _plainer(field.type) for field in kind}
        return lambda value: {
            name: None if value[name] is None else plain(value[name]) for name, plain in fields.items()
        }
    if pa.types.is_nested(kind):
        inner = _plainer(kind.value_type)
        return lambda value: [None if each is None else inner(each) for each in value]
    return lambda value: value


def _json_lines(found: pa.Table) -> list[str]:
    names = [json.dumps(name) for name in found.column_names]
    rows = ["{" + ", ".join(map(": ".join, zip(names, map(json_of, row), strict=True))) + "}" for row in rows_of(found)]
    return ["[", *(f" {row}," for row in rows[:-1]), *(f" {row}" for row in rows[-1:]), "]"]


def _csv_lines(found: pa.Table) -> list[str]:
    """Texts are quoted and numbers are not, so that an empty text and NULL differ."""

    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    def cell(value: Any) -> str:
        return quoted(text_of(value)) if isinstance(value, str | dict | list | bytes) else text_of(value)

    header = ",".join(map(quoted, found.column_names))
    return [header, *(",".join(map(cell, row)) for row in rows_of(found))]
