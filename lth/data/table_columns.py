"""Columns of Arrow tables as arrays: numbers, the codes of categories, classes. Train and test in step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lth.data.examples import Column
from lth.data.tables import UNSEEN, missing_target, too_many_categories
from lth.errors import DataError
from lth.objectives.registry import Target

if TYPE_CHECKING:
    import pyarrow as pa

Array = np.ndarray[Any, Any]
MOST_CLASSES = 100
"""An integer target of more values than this is a number, unless the experiment says otherwise."""


def encoded_features(name: str, splits: tuple[pa.Table, pa.Table]) -> tuple[tuple[Column, ...], list[Array]]:
    """The columns, and float64 [rows, columns] of each split: NaN where a value is missing, categories as codes."""
    import pyarrow as pa

    train = splits[0]
    columns = []
    features = [np.empty((len(split), train.num_columns), np.float64) for split in splits]
    for position, field in enumerate(train.schema):
        categories = _values(train[field.name]) if field.type == pa.string() else None
        if categories is not None:
            too_many_categories(name, field.name, len(categories))
        for array, split in zip(features, splits, strict=True):
            column = split[field.name]
            array[:, position] = _numbers(column) if categories is None else _codes(column, categories)
        columns.append(Column(field.name, None if categories is None else tuple(categories)))
    return tuple(columns), features


def encoded_target(
    name: str, column: str, splits: tuple[pa.ChunkedArray, pa.ChunkedArray], kind: str | None
) -> tuple[Target, tuple[str, ...], list[Array]]:
    """What is learnt, what its classes are called, and each split's: int64 classes or float64 numbers."""
    import pyarrow as pa

    for split, values in zip(("train", "test"), splits, strict=True):
        missing = int(np.isnan(_numbers(values)).sum()) if values.type == pa.float64() else values.null_count
        if missing:
            raise DataError(missing_target(f"the {split} split of {name}", column, missing, len(values)))
        if values.type == pa.float64() and np.isinf(_numbers(values)).any():
            raise DataError(
                f"the target {column!r} of {name} is infinite in the {split} split; mend or remove the rows"
            )
    train = splits[0]
    if kind == "number" and train.type == pa.string():
        raise DataError(f"the target {column!r} of {name} is text, no number: set dataset.target_kind to class")
    classes: list[Any] = [] if kind == "number" or (kind is None and train.type == pa.float64()) else _values(train)
    if not classes or (kind is None and train.type == pa.int64() and len(classes) > MOST_CLASSES):
        return Target("number"), (), [_numbers(values) for values in splits]
    too_many_categories(name, column, len(classes))
    codes = [_codes(values, classes) for values in splits]
    unseen = codes[1] == UNSEEN
    if unseen.any():
        value = _label(splits[1][int(unseen.argmax())].as_py())
        raise DataError(
            f"class {value!r} of the target {column!r} is in the test split of {name} only: no network can learn it; "
            "split the rows anew, or set dataset.target_kind to number if it is a quantity"
        )
    return Target("class", len(classes)), tuple(map(_label, classes)), [array.astype(np.int64) for array in codes]


def _values(column: pa.ChunkedArray) -> list[Any]:
    """The values that occur, in order, without the missing ones."""
    values: list[Any] = column.drop_null().unique().to_pylist()
    return sorted(values)


def _numbers(column: pa.ChunkedArray) -> Array:
    import pyarrow as pa

    return np.array(column.cast(pa.float64()).to_numpy())  # a copy that may be written to, as torch wants it


def _codes(column: pa.ChunkedArray, values: list[Any]) -> Array:
    """Place of each value in `values`, float64: NaN of a missing one, UNSEEN of one that is not there."""
    import pyarrow as pa
    import pyarrow.compute as compute

    places = compute.index_in(column, value_set=pa.array(values, column.type))
    codes: Array = places.cast(pa.float64()).fill_null(UNSEEN).to_numpy()
    return np.where(column.is_null().to_numpy(), np.nan, codes)


def _label(value: Any) -> str:
    """What a class is called: true and false as in YAML, a whole float as an integer."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
