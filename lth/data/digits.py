"""The 8x8 handwritten digits that scikit-learn carries with it: 1,797 images, no download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch

from lth.data.images import ImageData
from lth.data.registry import register_dataset
from lth.errors import LthError
from lth.streams import stream

TEST_PER_CLASS = 36
"""Images of each of the ten classes in the test split: 360 of 1,797, a fifth."""


@register_dataset("digits", "8x8 handwritten digits bundled with scikit-learn: 1,437 train, 360 test; no download")
def load_digits(root: Path) -> ImageData:
    """Pixels keep their values of 0..16; `root` is not read.

    The set has no test split of its own. Ours is stratified, 36 images per class, and drawn from the fixed stream
    (0, "digits/test"): it is the same for every seed of every experiment. Both splits keep the order of the source.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test part).
    """
    table = np.loadtxt(_file(), delimiter=",", dtype=np.int64)
    inputs = torch.from_numpy(table[:, :-1].astype(np.uint8)).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(table[:, -1].copy())

    generator = stream(0, "digits/test")
    is_test = torch.zeros(len(labels), dtype=torch.bool)
    for digit in range(10):
        members = (labels == digit).nonzero().squeeze(1)
        is_test[members[torch.randperm(len(members), generator=generator)[:TEST_PER_CLASS]]] = True
    return ImageData("digits", inputs[~is_test], labels[~is_test], inputs[is_test], labels[is_test], classes=10)


def _file() -> Path:
    """The set as scikit-learn carries it: 64 pixels and the label a line. Importing scikit-learn, which this does not,
    takes longer than the first training. Raises LthError where there is no such file."""
    found = importlib.util.find_spec("sklearn")
    file = Path(str(found and found.origin)).parent / "datasets" / "data" / "digits.csv.gz"
    if not file.is_file():
        raise LthError(f"scikit-learn carries no digits here: {file} is missing; pip install 'scikit-learn>=1.6'")
    return file
