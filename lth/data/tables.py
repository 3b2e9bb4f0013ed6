"""A table with a column to learn as four tensors, resident in memory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lth.data.arrays import Arrays, Description, as_array, as_tensors, sha256_of, type_and_shape
from lth.data.class_labels import check_classes, class_caveats
from lth.data.examples import TARGET, Column, Examples, Schema
from lth.data.table_transform import FEATURES, TableTransform
from lth.errors import DataError, InvalidExperiment
from lth.objectives.registry import Target

ARRAY_NAMES = ("train_features", "train_target", "test_features", "test_target")
UNSEEN = -1.0
"""Code of a category that the training split does not have."""
MOST_CATEGORIES = 1000
LARGEST = 1e30
"""Numbers beyond this one are refused: their squares, or the networks' float32, cannot hold them."""


@dataclass(frozen=True, eq=False, repr=False)
class TableData:
    """Features and the target of a training and a test split.

    Features are raw: NaN is a missing value; a category is its place in its column's `categories`, and UNSEEN if it has
    none there (that is no missing value). The tensors are read-only by agreement, as those of `ImageData` are.
    Equality of content is equality of `fingerprint()`.
    """

    name: str
    """The name it was loaded under, e.g. `breast-cancer`."""
    columns: tuple[Column, ...]
    train_features: Tensor
    """Raw values, float64 [N, columns]."""
    train_target: Tensor
    """What is to be learnt: classes int64 [N], 0..classes-1, or numbers float64 [N]."""
    test_features: Tensor
    """Raw values of the test split, float64 [M, columns]."""
    test_target: Tensor
    """What is to be learnt of the test split, [M]."""
    target: Target
    target_name: str = "target"
    """Name of the column that is learnt."""
    labels: tuple[str, ...] = ()
    """What the classes are called."""

    def __repr__(self) -> str:
        counts = f"{len(self.train_target)} train + {len(self.test_target)} test"
        learnt = f"{self.target.classes} classes" if self.target.kind == "class" else "a number"
        return f"TableData({self.name}: {counts} rows of {len(self.columns)} columns, {learnt} {self.target_name!r})"

    @cached_property
    def indicators(self) -> tuple[int, ...]:
        """Positions of the columns that miss some of their values in either split, but not all."""
        missing = sum(getattr(self, f"{split}_features").isnan().sum(0) for split in ("train", "test"))
        rows = len(self.train_features) + len(self.test_features)
        return tuple(((missing > 0) & (missing < rows)).nonzero().flatten().tolist())

    @property
    def input_shape(self) -> tuple[int]:
        """Features after the transform."""
        return (self.transform().features,)

    def examples(self) -> Examples:
        """The four tensors by name, with their schema."""
        return Examples(
            self.name,
            Schema("table", self.input_shape, self.target, self.columns),
            {FEATURES: self.train_features, TARGET: self.train_target},
            {FEATURES: self.test_features, TARGET: self.test_target},
        )

    def transform(self, standardise: str = "channel", crop_padding: int = 0, flip: bool = False) -> TableTransform:
        """Standardised numbers, categories one by one, indicators of missing values."""
        for field, value in (("crop_padding", crop_padding), ("flip", flip)):
            if value:
                raise InvalidExperiment(
                    f"dataset.{field} is {value}, but data set {self.name!r} is a table, which has nothing to crop or "
                    "mirror; leave it out"
                )
        return TableTransform(self.columns, self.indicators, self.target.kind, standardise)

    def check(self) -> None:
        """Refuse a data set that could not be trained on. A constant or empty column is harmless.

        Raises:
            DataError: an empty split, a wrong dtype or shape, an infinite or excessive value, a category without a
                name, more than MOST_CATEGORIES of them, or a target that is missing, out of range, the same everywhere,
                or of a class that only the test split has; the message names split, column and value.
        """
        for column in self.columns:
            too_many_categories(self.name, column.name, len(column.categories or ()))
        for split in ("train", "test"):
            where = f"the {split} split of data set {self.name!r}"
            features: Tensor = getattr(self, f"{split}_features")
            target: Tensor = getattr(self, f"{split}_target")
            self._check_features(where, features)
            wanted = torch.int64 if self.target.kind == "class" else torch.float64
            if target.dtype != wanted or target.shape != features.shape[:1]:
                expected = type_and_shape(torch.empty(len(features), dtype=wanted, device="meta"))
                raise DataError(f"{where} has a target of {type_and_shape(target)}: it must be {expected}")
        self._check_classes() if self.target.kind == "class" else self._check_numbers()

    def _check_features(self, where: str, features: Tensor) -> None:
        if features.dtype != torch.float64 or features.ndim != 2 or features.shape[1] != len(self.columns):
            wanted = f"float64 [N, {len(self.columns)}], a column each"
            raise DataError(f"{where} has features of {type_and_shape(features)}: they must be {wanted}")
        if features.numel() == 0:
            raise DataError(f"{where} is empty (features {list(features.shape)}): it needs at least one row and column")
        for column, values in zip(self.columns, features.unbind(1), strict=True):
            values = values[~values.isnan()]
            excessive = values[values.abs() > LARGEST]
            if len(excessive):
                what = f"{len(excessive)} values such as {float(excessive[0]):g} in column {column.name!r}"
                raise DataError(f"{where} has {what}: leave what is missing empty, and use a unit of smaller numbers")
            if column.categories is not None:
                codes = values.round().clamp(UNSEEN, len(column.categories) - 1)
                if not torch.equal(codes, values):
                    wrong = float(values[codes != values][0])
                    what = f"the code {wrong:g} in column {column.name!r}"
                    raise DataError(f"{where} has {what}: it has {len(column.categories)} categories, numbered from 0")

    def _check_classes(self) -> None:
        for split in ("train", "test"):
            target: Tensor = getattr(self, f"{split}_target")
            wrong = target[(target < 0) | (target >= self.target.classes)]
            if len(wrong):
                allowed = f"with {self.target.classes} classes they must be in 0..{self.target.classes - 1}"
                raise DataError(f"the {split} split of data set {self.name!r} has the class {int(wrong[0])}: {allowed}")
        hint = ", or set dataset.target_kind to number if the target is a quantity"
        check_classes(self.name, self.target.classes, self.train_target, self.test_target, self.labels, hint)

    def _check_numbers(self) -> None:
        for split in ("train", "test"):
            target: Tensor = getattr(self, f"{split}_target")
            where = f"the {split} split of data set {self.name!r}"
            if target.isnan().any():
                raise DataError(missing_target(where, self.target_name, int(target.isnan().sum()), len(target)))
            excessive = target[target.abs() > LARGEST]
            if len(excessive):
                what = f"the target {float(excessive[0]):g}"
                raise DataError(f"{where} has {what}: leave such rows out, or use a unit of smaller numbers")
        if len(self.train_target.unique()) == 1:
            only = f"the one target {float(self.train_target[0]):g}"
            raise DataError(f"the train split of data set {self.name!r} has {only}: there is nothing to learn")

    def caveats(self) -> tuple[str, ...]:
        """What a reader of its results must know, one sentence each."""
        sentences = []
        if self.target.kind == "class":
            sentences = class_caveats(self.target.classes, self.train_target, self.test_target, self.labels)
        same = (
            self.train_features.shape == self.test_features.shape
            and torch.equal(self.train_features.nan_to_num(), self.test_features.nan_to_num())
            and torch.equal(self.train_target, self.test_target)
        )
        if same:
            sentences.append("The test split holds the rows of the training split: its scores say nothing of others.")
        return tuple(sentences)

    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) over the columns, their categories, the kind of target, and every tensor.

        Two runs used the same data exactly when their fingerprints agree. What the data set, its target and its classes
        are called does not count.
        """
        header = {
            "columns": [[column.name, column.categories] for column in self.columns],
            "target": [self.target.kind, self.target.classes],
        }
        arrays = {  # there are many NaNs, one of which is enough
            name: as_array(tensor.masked_fill(tensor.isnan(), torch.nan) if tensor.is_floating_point() else tensor)
            for name, tensor in ((name, getattr(self, name)) for name in ARRAY_NAMES)
        }
        return sha256_of(json.dumps(header) + ";", arrays)

    def to_arrays(self) -> tuple[Description, Arrays]:
        """What is no tensor as plain data, and the four tensors as arrays that share their memory."""
        description = {
            "kind": "table",
            "name": self.name,
            "columns": [[column.name, column.categories and list(column.categories)] for column in self.columns],
            "target": [self.target.kind, self.target.classes],
            "target_name": self.target_name,
            "labels": list(self.labels),
        }
        return description, {name: as_array(getattr(self, name)) for name in ARRAY_NAMES}

    @classmethod
    def from_arrays(cls, description: Description, arrays: Arrays) -> TableData:
        """The reverse of `to_arrays`, without a copy. Raises DataError if it does not pass `check`."""
        name = description["name"]
        data = cls(
            name=name,
            columns=tuple(
                Column(column, None if categories is None else tuple(categories))
                for column, categories in description["columns"]
            ),
            target=Target(*description["target"]),
            target_name=description["target_name"],
            labels=tuple(description["labels"]),
            **as_tensors(name, arrays, ARRAY_NAMES),
        )
        data.check()
        return data


def missing_target(where: str, column: str, count: int, rows: int) -> str:
    """What to say of rows without a target."""
    return f"{where} misses the target {column!r} in {count:,} of {rows:,} rows: fill it in, or leave those rows out"


def too_many_categories(name: str, column: str, count: int) -> None:
    """Refuse a column of more than MOST_CATEGORIES values."""
    if count > MOST_CATEGORIES:
        raise DataError(
            f"column {column!r} of {name} has {count:,} categories, more than {MOST_CATEGORIES:,}: it looks "
            "like an identifier; leave the column out, or group its values"
        )
