"""Tables in Parquet: what is a number, a category, a class; and mistakes that are named."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lth.data import TableData, load_dataset
from lth.data.examples import Column
from lth.errors import DataError
from lth.objectives import Target


def write(folder: Path, train: dict[str, Any], test: dict[str, Any] | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(train), folder / "train.parquet")
    if test is not None:
        pq.write_table(pa.table(test), folder / "test.parquet")


def table(root: Path, target: str = "y", kind: str | None = None) -> TableData:
    data = load_dataset("table", root, ".", target, kind)
    assert isinstance(data, TableData)
    return data


def test_numbers_categories_and_what_is_missing(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "age": [30, None, 50],
            "size": pa.array([1.5, float("nan"), None], pa.float32()),
            "smokes": [True, False, None],
            "city": ["Rome", None, "Bonn"],
            "y": [0, 1, 0],
            "blood": pa.array(["B", "A", "B"]).dictionary_encode(),
            "nothing": pa.nulls(3),
            "__index_level_0__": [7, 8, 9],
        },
        {  # in another order, numbers in other types, and a city that no training row has
            "city": ["Nice", None],
            "age": [30.5, 1.0],
            "size": [1, 2],
            "smokes": [True, True],
            "blood": ["A", "O"],
            "nothing": [1.0, None],
            "y": [0, 1],
        },
    )
    data = table(tmp_path)
    assert data.name == "table:."
    assert data.columns == (
        Column("age"),
        Column("size"),
        Column("smokes"),
        Column("city", ("Bonn", "Rome")),
        Column("blood", ("A", "B")),
        Column("nothing"),
    )
    missing = np.nan
    train = [
        [30, 1.5, 1, 1, 1, missing],
        [missing, missing, 0, missing, 0, missing],
        [50, missing, missing, 0, 1, missing],
    ]
    assert np.array_equal(data.train_features.numpy(), train, equal_nan=True)
    assert np.array_equal(
        data.test_features.numpy(), [[30.5, 1, 1, -1, 0, 1], [1, 2, 1, missing, -1, missing]], equal_nan=True
    )
    assert (data.target_name, data.target, data.labels) == ("y", Target("class", 2), ("0", "1"))


@pytest.mark.parametrize(
    ("values", "kind", "labels", "train"),
    [
        ([30, 0, 20, 10], None, ("0", "10", "20", "30"), [3, 0, 2, 1]),
        (["yes", "no", "no", "yes"], None, ("no", "yes"), [1, 0, 0, 1]),
        ([True, False, True, True], None, ("false", "true"), [1, 0, 1, 1]),
        ([1.0, 0.0, 2.5, 0.0], "class", ("0", "1", "2.5"), [1, 0, 2, 0]),
    ],
)
def test_a_target_of_classes(values: Any, kind: str | None, labels: Any, train: Any, tmp_path: Path) -> None:
    write(tmp_path, {"x": [1, 2, 3, 4], "y": values}, {"x": [5], "y": values[:1]})
    data = table(tmp_path, kind=kind)
    assert (data.target, data.labels) == (Target("class", len(labels)), labels)
    assert data.train_target.tolist() == train and data.test_target.tolist() == train[:1]


@pytest.mark.parametrize(
    ("values", "kind"),
    [([1.5, 2, 3], None), ([30, 0, 20], "number"), ([True, False, True], "number"), (list(range(101)), None)],
)
def test_a_target_of_numbers(values: list[float], kind: str | None, tmp_path: Path) -> None:
    write(tmp_path, {"x": list(range(len(values))), "y": values}, {"x": [5], "y": values[:1]})
    data = table(tmp_path, kind=kind)
    assert (data.target, data.labels) == (Target("number"), ())
    assert data.train_target.dtype == torch.float64 and data.train_target.tolist() == values


def test_shards_in_the_order_of_their_names(tmp_path: Path) -> None:
    for shard, sizes in enumerate(([1, 2], [3.5], [4])):
        shards = {"y": [float(len(sizes) + shard)] * len(sizes), "x": sizes}
        pq.write_table(pa.table(shards), tmp_path / f"train-{shard:05d}-of-00003.parquet")
    write(tmp_path, {"x": [9], "y": [9.0]}, {"x": [9], "y": [9.0]})
    (tmp_path / "train.parquet").unlink()
    data = table(tmp_path)
    assert data.train_features.flatten().tolist() == [1, 2, 3.5, 4]
    (tmp_path / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(DataError, match="train-00001-of-00003.parquet is missing"):
        table(tmp_path)


GOOD: dict[str, Any] = {"x": [1.0, 2.0], "y": [0, 1]}


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (GOOD, None, r"has no test\*\.parquet: both a train and a test split are needed"),
        (GOOD, {"x": pa.array([], pa.float64()), "y": pa.array([], pa.int64())}, r"test\.parquet has no rows"),
        ({**GOOD, "z": [1, 2]}, GOOD, r"test\.parquet lacks column 'z' of .*train\.parquet"),
        (GOOD, {**GOOD, "z": [1, 2]}, r"train\.parquet lacks column 'z' of .*test\.parquet"),
        ({**GOOD, "x": ["a", "b"]}, GOOD, r"column 'x' is string in .*train\.parquet, but double in .*test\.parquet"),
        ({"x": [1, 2], "z": [1, 2]}, {"x": [1], "z": [2]}, "no column 'y' for dataset.target; there are x, z"),
        ({"x": [1, 2], "yy": [1, 2]}, {"x": [1], "yy": [2]}, r"did you mean 'yy'\? there are x, yy"),
        ({"y": [0, 1]}, {"y": [1]}, "no column besides the target 'y'"),
        ({**GOOD, "y": [0, None]}, GOOD, "train split of .* misses the target 'y' in 1 of 2 rows: fill it in"),
        (GOOD, {**GOOD, "y": [float("nan"), 1.0]}, "test split of .* misses the target 'y' in 1 of 2 rows"),
        (GOOD, {**GOOD, "y": [1, 2]}, "class '2' of the target 'y' is in the test split of .* only"),
        ({**GOOD, "x": [float("inf"), 1]}, GOOD, "train split .* values such as inf in column 'x'"),
        (
            {**GOOD, "x": [2**53 + 1, 1]},
            GOOD,
            "has 9007199254740993 in column 'x': .*identifiers; leave the column out",
        ),
        (
            {**GOOD, "x": [datetime.datetime(2020, 1, 1)] * 2},
            GOOD,
            r"column 'x' of type timestamp\[us\]: make it numbers",
        ),
        ({**GOOD, "x": [[1], [2]]}, GOOD, "column 'x' of type list<.*leave it out"),
        ({**GOOD, "x": [{"a": 1}, {"a": 2}]}, GOOD, "column 'x' of type struct<"),
        ({**GOOD, "x": [b"1", b"2"]}, GOOD, "column 'x' of type binary"),
        ({**GOOD, "x": [decimal.Decimal("0.1"), decimal.Decimal("0.2")]}, GOOD, "column 'x' of type decimal128"),
        (
            {"x": [f"id {row}" for row in range(1001)], "y": [row % 2 for row in range(1001)]},
            {"x": ["id 1"], "y": [0]},
            "column 'x' of .* has 1,001 categories.* identifier; leave the column out",
        ),
    ],
)
def test_mistakes_are_named_in_one_line(train: Any, test: Any, message: str, tmp_path: Path) -> None:
    write(tmp_path, train, test)
    with pytest.raises(DataError, match=message) as refused:
        table(tmp_path)
    assert "\n" not in str(refused.value)


def test_text_is_no_number(tmp_path: Path) -> None:
    write(tmp_path, {**GOOD, "y": ["a", "b"]}, {**GOOD, "y": ["a", "b"]})
    with pytest.raises(DataError, match="target 'y' .* is text, no number: set dataset.target_kind to class"):
        table(tmp_path, kind="number")


@pytest.mark.parametrize(
    ("path", "message"), [("../elsewhere", "leads out of"), ("nowhere", "is no folder: put train.*LTH_DATA_DIR")]
)
def test_paths_stay_below_the_root(path: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset("table", tmp_path, path, "y")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, GOOD, GOOD)
    (tmp_path / "test.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(DataError, match=r"test\.parquet cannot be read as Parquet .*: fetch it again"):
        table(tmp_path)


def test_the_tables_at_hand(real_data: Path) -> None:
    framingham, caravan = (load_dataset("table", real_data, name, "label") for name in ("framingham", "caravan"))
    assert repr(framingham) == (
        "TableData(table:framingham: 3392 train + 848 test rows of 15 columns, 2 classes 'label')"
    )
    assert isinstance(framingham, TableData) and isinstance(caravan, TableData)
    missing = [framingham.columns[position].name for position in framingham.indicators]
    assert missing == ["education", "cigsPerDay", "BPMeds", "totChol", "BMI", "heartRate", "glucose"]
    assert (caravan.input_shape, len(caravan.train_target), len(caravan.test_target)) == ((85,), 4658, 1164)


@pytest.mark.parametrize("kind", [None, "class", "number"])
def test_an_infinite_target_is_refused(kind: str | None, tmp_path: Path) -> None:
    write(tmp_path, {"a": [1.0, 2.0, 3.0], "y": [1.0, float("inf"), 1.0]}, {"a": [1.0], "y": [1.0]})
    with pytest.raises(DataError, match="the target 'y' of .* is infinite in the train split"):
        table(tmp_path, kind=kind)
