"""Any table in Parquet: a row an example, a column a feature, and one column to learn."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lth.data.parquet_files import naming, parquet_folder, parquet_shards
from lth.data.registry import register_dataset
from lth.data.table_columns import encoded_features, encoded_target
from lth.data.tables import TableData
from lth.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST_INTEGER = 2**53
"""Beyond it float64 does not hold every integer."""
_INDEX_OF_PANDAS = "__index_level_"


@register_dataset(
    "table",
    "Any table in Parquet: <path>/train*.parquet and test*.parquet, one column of which is the target",
    takes_path=True,
    takes_target=True,
)
def load_table(root: Path, path: str, target: str, target_kind: str | None = None) -> TableData:
    """Read `<root>/<path>/train*.parquet` and `test*.parquet`, several shards in the order of their names.

    Integers, floats and booleans are numbers; text and dictionaries of text are categories, those of the training split
    in alphabetical order, and one that only the test split has is none of them. Null and NaN are missing values. Index
    columns that pandas writes (`__index_level_0__`) are left out. The target is classes if it is text, boolean, or few
    integers (`table_columns.MOST_CLASSES`), else a number; `target_kind` decides otherwise. Classes are the training
    split's values in order, so they need not be called 0, 1, 2.

    Raises:
        DataError: the path leaves `root`, a file is missing or damaged, there is no such target, files differ in their
            columns, or a column or the target cannot be used; the message names file, column and remedy.
    """
    folder = parquet_folder(root, path)
    files = {split: parquet_shards(folder, split) for split in ("train", "test")}
    train, test = _joined([[(file, _read(file)) for file in files[split]] for split in files])
    names = train.column_names
    if target not in names:
        close = difflib.get_close_matches(target, names, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise DataError(f"{folder} has no column {target!r} for dataset.target; {hint}there are {', '.join(names)}")
    if len(names) == 1:
        raise DataError(f"{folder} has no column besides the target {target!r}: there is nothing to learn from")
    columns, features = encoded_features(str(folder), (train.drop_columns(target), test.drop_columns(target)))
    learnt, labels, targets = encoded_target(str(folder), target, (train[target], test[target]), target_kind)
    return TableData(
        f"table:{path}",
        columns,
        torch.from_numpy(features[0]),
        torch.from_numpy(targets[0]),
        torch.from_numpy(features[1]),
        torch.from_numpy(targets[1]),
        learnt,
        target,
        labels,
    )


def _read(file: Path) -> pa.Table:
    """The columns of one file as string, bool, int64, double, or null where all of it is."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    with naming(file), ParquetFile(file, page_checksum_verification=True) as opened:
        table = opened.read()
    names = [name for name in table.column_names if not name.startswith(_INDEX_OF_PANDAS)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{file} has two columns {twice[0]!r}: give each a name of its own")
    return pa.table({name: _plain(table[name], name, file) for name in names})


def _plain(column: pa.ChunkedArray, name: str, file: Path) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as compute
    import pyarrow.types as types

    kind = column.type
    if types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return column.cast(pa.string())
    if types.is_integer(kind):
        bounds = compute.min_max(column).as_py()
        for bound in (bounds["min"], bounds["max"]):
            if bound is not None and abs(bound) > LARGEST_INTEGER:
                raise DataError(
                    f"{file} has {bound} in column {name!r}: integers beyond 2**53 are not exact in float64, and look "
                    "like identifiers; leave the column out, or make it double"
                )
        return column.cast(pa.int64())
    if types.is_floating(kind):
        return column.cast(pa.float64())
    if types.is_boolean(kind) or types.is_null(kind):
        return column
    raise DataError(
        f"{file} has column {name!r} of type {kind}: make it numbers (double) or text (categories), or leave it out"
    )


def _joined(splits: list[list[tuple[Path, pa.Table]]]) -> list[pa.Table]:
    """One table for each split, from all of its files, with equal columns; refuses files that do not fit together."""
    import pyarrow as pa

    first, model = splits[0][0]
    for file, table in [each for files in splits for each in files][1:]:
        _agree(first, model.schema, file, table.schema)
    kinds = {
        name: _common({table.schema.field(name).type for files in splits for _, table in files})
        for name in model.column_names
    }
    joined = []
    for files in splits:
        columns = {
            name: pa.chunked_array([chunk for _, table in files for chunk in table[name].cast(kind).chunks], kind)
            for name, kind in kinds.items()
        }
        joined.append(pa.table(columns))
        if len(joined[-1]) == 0:
            raise DataError(f"{files[0][0]} has no rows: each split needs at least one")
    return joined


def _common(kinds: set[pa.DataType]) -> pa.DataType:
    import pyarrow as pa

    known = {kind for kind in kinds if kind != pa.null()}
    return known.pop() if len(known) == 1 else pa.float64()


def _agree(first: Path, wanted: pa.Schema, file: Path, found: pa.Schema) -> None:
    """Refuse a file that lacks a column of the first one, has one more, or text where that has numbers."""
    import pyarrow as pa

    for here, there, names, others in (
        (file, first, found.names, wanted.names),
        (first, file, wanted.names, found.names),
    ):
        lacking = [name for name in others if name not in names]
        if lacking:
            raise DataError(f"{here} lacks column {lacking[0]!r} of {there}: all files need the same columns")
    for name in wanted.names:
        one, other = wanted.field(name).type, found.field(name).type
        if pa.null() not in (one, other) and (one == pa.string()) != (other == pa.string()):
            raise DataError(f"column {name!r} is {one} in {first}, but {other} in {file}: make it one of them in both")
