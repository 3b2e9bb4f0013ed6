"""The hash of a table's content: equal for equal results, however they were chunked, ordered, compressed or stored.

The hash is part of what a store promises between versions, so its input is defined here byte for byte and uses no
library's serialisation. For every column, in the order of the names: its name, its type, which rows are not null, and
the values as little-endian numbers; texts as their sorted distinct values followed by one number per row.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SORT_COLUMNS = ("seed", "tensor", "split", "step")
"""What puts the rows in order, as far as a table has these columns; together they identify a row within a unit."""


def content_hash(table: pa.Table, columns: Iterable[str]) -> str:
    """SHA-256 (hex) of the named columns of `table`, its rows put in the order of SORT_COLUMNS.

    Independent of chunking, of the order of rows and columns and of dictionary encoding. Null, NaN and 0 differ, and
    so do 0.0 and -0.0; every NaN is the same NaN. Rows that agree in all SORT_COLUMNS keep their order.
    """
    order = _row_order(table)
    digest = hashlib.sha256()
    _feed(digest, f"lth content 1, {table.num_rows} rows".encode())
    for name in sorted(set(columns)):
        _feed(digest, name.encode())
        _hash_column(digest, table[name].combine_chunks(), order)
    return digest.hexdigest()


def _row_order(table: pa.Table) -> np.ndarray | None:
    """The rows' order by SORT_COLUMNS, or None where they lie in it already."""
    keys = []
    for name in SORT_COLUMNS:
        if name in table.column_names:
            column = table[name].combine_chunks()
            keys.append(_text_codes(column)[1] if _is_text(column.type) else _numbers(column))
    if not keys:
        return None
    order = np.lexsort(keys[::-1])  # lexsort's last key is the first to decide
    return None if np.array_equal(order, np.arange(len(order))) else order


def _hash_column(digest: hashlib._Hash, column: pa.Array, order: np.ndarray | None) -> None:
    nulls_packed = _valid_packed(column, order)
    if _is_text(column.type):
        texts, codes = _text_codes(column)
        _feed(digest, b"text")
        _feed(digest, nulls_packed)
        _feed(digest, len(texts).to_bytes(8, "little"))
        for text in texts:
            _feed(digest, text)
        _feed(digest, _ordered(codes, order))
    elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        _feed(digest, b"bytes")
        _feed(digest, nulls_packed)
        rows = range(len(column)) if order is None else order
        for row in rows:
            _feed(digest, column[int(row)].as_buffer() or b"")
    elif pa.types.is_list(column.type):
        in_order = column if order is None else column.take(pa.array(order))
        items = in_order.flatten()
        _feed(digest, b"list of " + _number_type(items.type))
        _feed(digest, nulls_packed)
        _feed(digest, pc.fill_null(pc.list_value_length(in_order), 0).to_numpy(zero_copy_only=False).astype("<i8"))
        _feed(digest, _valid_packed(items, None))
        _feed(digest, _numbers(items))
    else:
        _feed(digest, _number_type(column.type))
        _feed(digest, nulls_packed)
        _feed(digest, _ordered(_numbers(column), order))


def _valid_packed(column: pa.Array, order: np.ndarray | None) -> np.ndarray:
    """One bit a row, lowest first: 1 where the row is not null."""
    if column.null_count == 0:
        valid = np.ones(len(column), dtype=np.bool_)
    else:
        valid = _ordered(column.is_valid().to_numpy(zero_copy_only=False), order)
    return np.packbits(valid, bitorder="little")


def _ordered(values: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    return values if order is None else values[order]


@functools.cache
def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _text_codes(column: pa.Array) -> tuple[list[bytes], np.ndarray]:
    """The distinct texts, sorted as UTF-8, and for every row the position of its text there (-1 for null)."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    encoded = column.dictionary_encode()
    texts = [text.encode() for text in encoded.dictionary.to_pylist()]
    by_value = sorted(range(len(texts)), key=texts.__getitem__)
    rank = np.empty(len(texts) + 1, dtype="<i8")
    rank[by_value] = np.arange(len(texts))
    rank[-1] = -1  # where the code of null, -1, points to
    return [texts[position] for position in by_value], rank[encoded.indices.fill_null(-1).to_numpy()]


@functools.cache
def _number_type(kind: pa.DataType) -> bytes:
    """The type's name, spelled here and not by pyarrow."""
    if pa.types.is_timestamp(kind):
        return f"timestamp {kind.unit} {kind.tz or ''}".encode()
    if pa.types.is_boolean(kind):
        return b"bool"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return str(np.dtype(kind.to_pandas_dtype())).encode()
    raise TypeError(f"no content hash is defined for columns of type {kind}")


def _numbers(column: pa.Array) -> np.ndarray:
    """The column's values as little-endian numbers; 0 in place of null."""
    _number_type(column.type)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if column.null_count:
        column = pc.fill_null(column, False if pa.types.is_boolean(column.type) else 0)
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    if pa.types.is_boolean(column.type):
        return values.astype("u1")
    if pa.types.is_floating(column.type):
        values = np.where(np.isnan(values), np.array(np.nan, dtype=values.dtype), values)
    return values.astype(values.dtype.newbyteorder("<"), copy=False)


def _feed(digest: hashlib._Hash, part: bytes | pa.Buffer | np.ndarray) -> None:
    """Adds a part with its length before it, so that no two sequences of parts read the same."""
    view = np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else memoryview(part)
    digest.update(view.nbytes.to_bytes(8, "little"))
    digest.update(view)
