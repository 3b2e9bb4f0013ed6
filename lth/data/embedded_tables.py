"""The tables that scikit-learn carries with it, no download: a class to learn, and a number."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lth.data.examples import Column
from lth.data.registry import register_dataset
from lth.data.tables import TableData
from lth.objectives.registry import Target
from lth.streams import stream


@register_dataset(
    "breast-cancer", "30 numbers of cell nuclei, malignant or benign: a table of 456 train, 113 test; no download"
)
def load_breast_cancer(root: Path) -> TableData:
    """Class 0 is malignant (212 rows), 1 benign (357); `root` is not read.

    Source: W. Wolberg, O. Mangasarian, N. Street and W. Street, Breast Cancer Wisconsin (Diagnostic), UCI, 1993.
    """
    from sklearn import datasets

    bunch = datasets.load_breast_cancer()
    classes = torch.from_numpy(bunch.target).long()
    groups = [(classes == label).nonzero().flatten() for label in range(2)]
    return _table(
        "breast-cancer", bunch.feature_names, torch.from_numpy(bunch.data), classes, groups, ("malignant", "benign")
    )


@register_dataset(
    "diabetes", "10 measurements of patients, progression a year later: a table of 354 train, 88 test; no download"
)
def load_diabetes(root: Path) -> TableData:
    """Values in their own units, not those that scikit-learn scales by all rows; `root` is not read.

    Source: B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, Least Angle Regression, Annals of Statistics 32, 2004.
    """
    from sklearn import datasets

    bunch = datasets.load_diabetes(scaled=False)
    target = torch.from_numpy(bunch.target).double()
    return _table(
        "diabetes", bunch.feature_names, torch.from_numpy(bunch.data), target, [torch.arange(len(target))], ()
    )


def _table(
    name: str, columns: list[str], features: Tensor, target: Tensor, groups: list[Tensor], labels: tuple[str, ...]
) -> TableData:
    """With a test split of a fifth of each group of rows, rounded down, drawn from the fixed stream (0, "<name>/test"):
    it is the same for every seed of every experiment. Both splits keep the order of the source."""
    generator = stream(0, f"{name}/test")
    is_test = torch.zeros(len(target), dtype=torch.bool)
    for rows in groups:
        is_test[rows[torch.randperm(len(rows), generator=generator)[: len(rows) // 5]]] = True
    features = features.double()
    return TableData(
        name,
        tuple(Column(str(column)) for column in columns),
        features[~is_test],
        target[~is_test],
        features[is_test],
        target[is_test],
        Target("class", len(labels)) if labels else Target("number"),
        "diagnosis" if labels else "progression",
        labels,
    )
