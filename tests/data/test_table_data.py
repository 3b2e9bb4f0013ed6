"""A table as tensors: what is refused, what identifies it, how it travels."""

from __future__ import annotations

import gc
import json
from math import inf, nan
from typing import Any

import numpy as np
import pytest
import torch
from small_tables import AGE, CITY, EMPTY, small_table, with_numbers

from lth.data import TableData, load_dataset, restore
from lth.data.examples import Column
from lth.errors import DataError, InvalidExperiment
from lth.experiment import load_experiment
from lth.objectives import Target


def changed(name: str, row: int, column: int, value: float) -> dict[str, Any]:
    features = getattr(small_table(), name).clone()
    features[row, column] = value
    return {name: features}


def test_schema_and_description() -> None:
    data = small_table()
    data.check()
    schema = data.examples().schema
    assert (schema.kind, schema.input_shape, schema.target) == ("table", (6,), Target("class", 2))
    assert schema.columns == (AGE, CITY, EMPTY)
    assert repr(data) == "TableData(small: 5 train + 2 test rows of 3 columns, 2 classes 'ill')"
    assert data.indicators == (0, 1)  # nothing is told by an indicator of a column that is always empty
    with_numbers().check()
    assert repr(with_numbers()).endswith("a number 'ill')")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_features": torch.zeros(5, 3)}, r"train split of .*'small' has features of float32 \[5, 3\]"),
        ({"train_features": torch.zeros(5, 2).double()}, r"features of float64 \[5, 2\]: .* float64 \[N, 3\]"),
        (
            {"test_features": torch.zeros(0, 3).double(), "test_target": torch.zeros(0).long()},
            "test split of .* is empty",
        ),
        ({"train_target": torch.zeros(4).long()}, r"train split .* target of int64 \[4\]: it must be int64 \[5\]"),
        ({"test_target": torch.zeros(2)}, r"test split .* target of float32 \[2\]: it must be int64 \[2\]"),
        (changed("train_features", 1, 0, inf), "train split .* 1 values such as inf in column 'age'"),
        (changed("test_features", 1, 0, -1e31), r"test split .* values such as -1e\+31 in column 'age'.* unit"),
        (changed("test_features", 0, 1, 2.0), "test split .* the code 2 in column 'city': it has 2 categories"),
        (changed("train_features", 0, 1, 0.5), "train split .* the code 0.5 in column 'city'"),
        ({"train_target": torch.tensor([0, 1, 0, 1, 2])}, r"train split .* the class 2: with 2 classes .* 0\.\.1"),
        ({"test_target": torch.tensor([-1, 1])}, "test split .* the class -1"),
        ({"labels": ("no",)}, "1 labels for 2 classes"),
        ({"train_target": torch.zeros(5).long()}, "train split .* the one class 'no'"),
        (
            {"target": Target("class", 3), "labels": (), "test_target": torch.tensor([2, 1])},
            "class 2 .* is in the test split only",
        ),
        (
            {"columns": (AGE, Column("id", tuple(map(str, range(1001)))), EMPTY)},
            "'id' .* 1,001 categories.* identifier; leave the column out",
        ),
    ],
)
def test_check_names_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as refused:
        small_table(**changes).check()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([10.0, nan, nan, 40, 50], "train split .* misses the target 'ill' in 2 of 5 rows"),
        ([10.0, inf, 30, 40, 50], "train split .* has the target inf"),
        ([10.0] * 5, "train split .* has the one target 10"),
    ],
)
def test_check_of_a_number_to_learn(target: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        with_numbers(train_target=torch.tensor(target, dtype=torch.float64)).check()


def test_fingerprint_sees_every_part_of_the_data() -> None:
    variants = [
        small_table(),
        with_numbers(),
        small_table(**changed("train_features", 0, 0, 1.5)),
        small_table(**changed("train_features", 0, 0, nan)),
        small_table(train_target=torch.tensor([0, 1, 0, 1, 1])),
        small_table(test_target=torch.tensor([0, 1])),
        small_table(target=Target("class", 3)),
        small_table(columns=(Column("years"), CITY, EMPTY)),
        small_table(columns=(AGE, Column("city", ("Bonn", "Paris")), EMPTY)),
        small_table(columns=(AGE, Column("city"), EMPTY)),
    ]
    assert len({variant.fingerprint() for variant in variants}) == len(variants)


def test_fingerprint_is_pinned_and_ignores_names_and_kinds_of_nan() -> None:
    """A changed fingerprint orphans every result that lies in somebody's store."""
    assert small_table().fingerprint() == "74bf1f83ab49099d61f90262805d79be8d3a2199829e69e5f24d330a38e34c5e"
    odd = small_table().train_features.clone()
    odd[odd.isnan()] = torch.tensor([0xFFF8000000000001 - 2**64]).view(torch.float64)
    same = small_table(name="other", target_name="sick", labels=(), train_features=odd)
    assert same.train_features.isnan().sum() == 6
    assert same.fingerprint() == small_table().fingerprint()


def test_the_embedded_tables() -> None:
    cancer, diabetes = load_dataset("breast-cancer"), load_dataset("diabetes")
    assert isinstance(cancer, TableData) and isinstance(diabetes, TableData)
    assert (cancer.input_shape, diabetes.input_shape) == ((30,), (10,))
    # of 212 malignant and 357 benign rows a fifth each, rounded down
    assert torch.bincount(cancer.train_target).tolist() == [170, 286]
    assert torch.bincount(cancer.test_target).tolist() == [42, 71]
    assert (len(diabetes.train_target), len(diabetes.test_target), diabetes.target) == (354, 88, Target("number"))
    ages = torch.cat([diabetes.train_features[:, 0], diabetes.test_features[:, 0]])
    assert (ages.min(), ages.max()) == (19, 79)  # years, not scikit-learn's scaled values
    assert cancer.fingerprint() == "9d80664dd3ecedc68da47aee8845221b6b1fdfefeafb1b72947d8ca09a845d6c"
    assert diabetes.fingerprint() == "e88fdb6bf41425622df3af1bf52195eeec76fa44175b9182ae20d019e7a6a7c0"


@pytest.mark.parametrize("data", [small_table(), with_numbers()], ids=["classes", "numbers"])
def test_to_arrays_and_back_without_a_copy(data: TableData) -> None:
    description, arrays = data.to_arrays()
    assert arrays["train_features"].ctypes.data == data.train_features.data_ptr()
    shared = {name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape) for name, array in arrays.items()}
    assert not shared["test_target"].flags.writeable

    again = restore(json.loads(json.dumps(description)), shared)

    assert isinstance(again, TableData)
    assert again.train_features.data_ptr() == shared["train_features"].ctypes.data
    del shared
    gc.collect()
    assert again.fingerprint() == data.fingerprint()
    assert (again.name, again.columns, again.labels) == (data.name, data.columns, data.labels)
    assert (again.target, again.target_name, again.transform()) == (data.target, data.target_name, data.transform())


def test_restore_checks_what_it_is_given() -> None:
    description, arrays = small_table().to_arrays()
    with pytest.raises(DataError, match="1 labels for 2 classes"):
        restore({**description, "labels": ["no"]}, arrays)
    with pytest.raises(DataError, match="lacks the array 'test_target'"):
        restore(description, {name: array for name, array in arrays.items() if name != "test_target"})


@pytest.mark.parametrize(("settings", "field"), [((4, False), "crop_padding is 4"), ((0, True), "flip is True")])
def test_nothing_of_a_table_is_cropped_or_mirrored(settings: tuple[int, bool], field: str) -> None:
    with pytest.raises(InvalidExperiment, match=rf"dataset\.{field}, but data set 'small' is a table"):
        small_table().transform("channel", *settings)


def test_such_a_transform_is_refused_when_the_data_are_read() -> None:
    experiment = load_experiment("breast-cancer", ["dataset.flip=true"])
    with pytest.raises(InvalidExperiment, match=r"dataset\.flip is True, but data set 'breast-cancer' is a table"):
        experiment.dataset.load()


def test_quantities_learnt_as_classes_and_lonely_classes_have_caveats() -> None:
    ages = torch.arange(30).repeat(2)
    features = torch.rand(60, 3, dtype=torch.float64)
    data = small_table(
        train_features=features.nan_to_num(),
        train_target=ages,
        test_features=features[:5] + 1,
        test_target=ages[:5],
        target=Target("class", 30),
        columns=(Column("a"), Column("b"), Column("c")),
        labels=tuple(str(20 + age) for age in range(30)),
    )
    data.check()
    assert (
        "The 30 classes are called by numbers, 20 to 49: a near miss counts as any other miss. A quantity is better "
        in (" ".join(data.caveats()))
    )
    assert "The test split has no example of 25 of 30 classes ('25', '26', '27', ...)" in " ".join(data.caveats())
    assert small_table().caveats() == with_numbers().caveats() == ()
    same = with_numbers(test_features=with_numbers().train_features, test_target=with_numbers().train_target)
    assert "the rows of the training split" in same.caveats()[0]
