"""scikit-learn's digits and the test split that is drawn from them."""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_digits

from lth.data import load_dataset


def test_the_split_is_stratified_and_loses_no_image(tmp_path: Path) -> None:
    data = load_dataset("digits", tmp_path)
    assert data.train_inputs.shape == (1437, 1, 8, 8)
    assert data.test_inputs.shape == (360, 1, 8, 8)
    assert torch.bincount(data.test_labels).tolist() == [36] * 10
    assert int(data.train_inputs.max()) == 16

    source = load_digits()
    both = torch.cat([data.train_inputs, data.test_inputs]).flatten(1)
    rows = sorted(
        zip(map(tuple, both.tolist()), torch.cat([data.train_labels, data.test_labels]).tolist(), strict=True)
    )
    assert rows == sorted(zip(map(tuple, source.data.astype(int).tolist()), source.target.tolist(), strict=True))


def test_the_split_is_the_same_for_ever(tmp_path: Path) -> None:
    # Published results name this data set: a change of the draw or of the source must not pass unnoticed.
    assert load_dataset("digits", tmp_path).fingerprint() == (
        "e111042a8e510f515fef46f931f6e3e01e6f17b41613a560defe3a4cd8ae7185"
    )
