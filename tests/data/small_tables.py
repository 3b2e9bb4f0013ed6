"""Tables small enough to work out by hand."""

from __future__ import annotations

from dataclasses import replace
from math import nan
from typing import Any

import torch

from lth.data import TableData
from lth.data.examples import Column
from lth.objectives import Target

AGE, CITY, EMPTY = Column("age"), Column("city", ("Bonn", "Rome")), Column("empty")


def small_table(**changes: Any) -> TableData:
    """Five train and two test rows: a number that misses one, a category that misses one, a column without values."""
    data = TableData(
        name="small",
        columns=(AGE, CITY, EMPTY),
        train_features=torch.tensor(
            [[1.0, 0, nan], [3, 1, nan], [nan, 0, nan], [5, 1, nan], [100, 0, nan]], dtype=torch.float64
        ),
        train_target=torch.tensor([0, 1, 0, 1, 0]),
        test_features=torch.tensor([[3.0, nan, nan], [7, -1, nan]], dtype=torch.float64),
        test_target=torch.tensor([1, 0]),
        target=Target("class", 2),
        target_name="ill",
        labels=("no", "yes"),
    )
    return replace(data, **changes)


def with_numbers(**changes: Any) -> TableData:
    """The same with a number to learn."""
    numbers = {
        "train_target": torch.tensor([10.0, 20, 30, 40, 1000], dtype=torch.float64),
        "test_target": torch.tensor([20.0, 30], dtype=torch.float64),
        "target": Target("number"),
        "labels": (),
    }
    return small_table(**{**numbers, **changes})
