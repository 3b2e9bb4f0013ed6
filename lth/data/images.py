"""An image classification data set as four tensors, resident in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lth.data.examples import TARGET, Examples, Schema
from lth.data.image_transform import PIXELS, ImageTransform
from lth.errors import DataError
from lth.objectives.registry import Target
from lth.shared_memory import tensor_over

ARRAY_NAMES = ("train_inputs", "train_labels", "test_inputs", "test_labels")


@dataclass(frozen=True, eq=False, repr=False)
class ImageData:
    """Images and labels of a training and a test split.

    The tensors are read-only by agreement: they may lie in memory that several processes share, and writing to
    them in place can end the process. Equality of content is equality of `fingerprint()`.
    """

    name: str
    """The name it was loaded under, e.g. `mnist`."""
    train_inputs: Tensor
    """Raw pixels, uint8 [N, C, H, W]."""
    train_labels: Tensor
    """Class of each training image, int64 [N], 0..classes-1."""
    test_inputs: Tensor
    """Raw pixels of the test split, uint8 [M, C, H, W]."""
    test_labels: Tensor
    """Class of each test image, int64 [M]."""
    classes: int
    """Number of classes, the width of a network's output."""

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.input_shape))
        counts = f"{len(self.train_labels)} train + {len(self.test_labels)} test"
        return f"ImageData({self.name}: {counts} images of {shape}, {self.classes} classes)"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        _, channels, height, width = self.train_inputs.shape
        return channels, height, width

    def examples(self) -> Examples:
        """The four tensors by name, with their schema."""
        schema = Schema("images", self.input_shape, Target("class", self.classes))
        return Examples(
            self.name,
            schema,
            {PIXELS: self.train_inputs, TARGET: self.train_labels},
            {PIXELS: self.test_inputs, TARGET: self.test_labels},
        )

    def transform(self, standardise: str = "channel", crop_padding: int = 0, flip: bool = False) -> ImageTransform:
        """Crops, flips and standardisation."""
        return ImageTransform(self.input_shape[0], standardise, crop_padding, flip)

    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) over the number of classes and every tensor's name, type, shape and bytes.

        Two runs used the same data exactly when their fingerprints agree. The data set's name does not count: MNIST
        read from another format is still MNIST.
        """
        digest = hashlib.sha256(f"classes={self.classes};".encode())
        for name, array in self.to_arrays().items():
            # Explicitly little-endian, so that the digest does not depend on the machine's byte order.
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            digest.update(f"{name}:{array.dtype.name}:{array.shape};".encode())
            digest.update(little.data)
        return digest.hexdigest()

    def to_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """The four tensors as numpy arrays that share their memory (copied only when they are on a GPU)."""
        return {name: getattr(self, name).detach().cpu().numpy() for name in ARRAY_NAMES}

    @classmethod
    def from_arrays(cls, name: str, classes: int, arrays: Mapping[str, np.ndarray[Any, Any]]) -> ImageData:
        """The reverse of `to_arrays`, without a copy; read-only arrays are welcome.

        Raises:
            DataError: if an array is missing or the content does not pass `check`.
        """
        missing = [key for key in ARRAY_NAMES if key not in arrays]
        if missing:
            raise DataError(f"data set {name!r} lacks the array {missing[0]!r}: it needs {', '.join(ARRAY_NAMES)}")
        data = cls(name=name, classes=classes, **{key: tensor_over(arrays[key]) for key in ARRAY_NAMES})
        check(data)
        return data


def check(data: ImageData) -> None:
    """Refuse a data set that could not be trained on.

    Raises:
        DataError: an empty split, a wrong dtype or rank, images and labels of different number, images of different
            shape in the two splits, or a label outside 0..classes-1; the message names the split and the value.
    """
    for split_name in ("train", "test"):
        inputs: Tensor = getattr(data, f"{split_name}_inputs")
        labels: Tensor = getattr(data, f"{split_name}_labels")
        where = f"the {split_name} split of data set {data.name!r}"
        if inputs.dtype != torch.uint8 or inputs.ndim != 4:
            found = f"{_dtype(inputs)} {list(inputs.shape)}"
            raise DataError(f"{where} has inputs of {found}: they must be uint8 [N, channels, height, width]")
        if labels.dtype != torch.int64 or labels.ndim != 1:
            raise DataError(f"{where} has labels of {_dtype(labels)} {list(labels.shape)}: they must be int64 [N]")
        if len(inputs) != len(labels):
            raise DataError(f"{where} has {len(inputs)} images but {len(labels)} labels: each image needs one label")
        if inputs.numel() == 0:
            raise DataError(f"{where} is empty (inputs {list(inputs.shape)}): it needs at least one image")
        lowest, highest = (int(value) for value in torch.aminmax(labels))
        if lowest < 0 or highest >= data.classes:
            wrong = lowest if lowest < 0 else highest
            allowed = f"0..{data.classes - 1}"
            raise DataError(f"{where} has the label {wrong}: with {data.classes} classes labels must be in {allowed}")
    if data.train_inputs.shape[1:] != data.test_inputs.shape[1:]:
        train, test = list(data.train_inputs.shape[1:]), list(data.test_inputs.shape[1:])
        raise DataError(f"data set {data.name!r} has train images of {train}, test images of {test}: they must agree")


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
