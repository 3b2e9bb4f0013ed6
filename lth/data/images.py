"""An image classification data set as four tensors, resident in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lth.data.arrays import Arrays, Description, as_array, as_tensors, sha256_of, type_and_shape
from lth.data.class_labels import check_classes, class_caveats
from lth.data.examples import TARGET, Examples, Schema
from lth.data.image_transform import PIXELS, ImageTransform
from lth.errors import DataError
from lth.objectives.registry import Target

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
    labels: tuple[str, ...] = ()
    """What the classes are called, where that is not 0, 1, 2, ..."""

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

    def check(self) -> None:
        """Refuse a data set that could not be trained on.

        Raises:
            DataError: an empty split, a wrong dtype or rank, images and labels of different number, images of different
                shape in the two splits, a label outside 0..classes-1, one class only, or one that only the test split
                has; the message names the split and the value.
        """
        for split_name in ("train", "test"):
            inputs: Tensor = getattr(self, f"{split_name}_inputs")
            labels: Tensor = getattr(self, f"{split_name}_labels")
            where = f"the {split_name} split of data set {self.name!r}"
            if inputs.dtype != torch.uint8 or inputs.ndim != 4:
                found = type_and_shape(inputs)
                raise DataError(f"{where} has inputs of {found}: they must be uint8 [N, channels, height, width]")
            if labels.dtype != torch.int64 or labels.ndim != 1:
                raise DataError(f"{where} has labels of {type_and_shape(labels)}: they must be int64 [N]")
            if len(inputs) != len(labels):
                counts = f"{len(inputs)} images but {len(labels)} labels"
                raise DataError(f"{where} has {counts}: each image needs one label")
            if inputs.numel() == 0:
                raise DataError(f"{where} is empty (inputs {list(inputs.shape)}): it needs at least one image")
            lowest, highest = (int(value) for value in torch.aminmax(labels))
            if lowest < 0 or highest >= self.classes:
                wrong = lowest if lowest < 0 else highest
                allowed = f"with {self.classes} classes labels must be in 0..{self.classes - 1}"
                raise DataError(f"{where} has the label {wrong}: {allowed}")
        if self.train_inputs.shape[1:] != self.test_inputs.shape[1:]:
            train, test = list(self.train_inputs.shape[1:]), list(self.test_inputs.shape[1:])
            both = f"train images of {train}, test images of {test}"
            raise DataError(f"data set {self.name!r} has {both}: they must agree")
        check_classes(self.name, self.classes, self.train_labels, self.test_labels, self.labels)

    def caveats(self) -> tuple[str, ...]:
        """What a reader of its results must know, one sentence each."""
        sentences = class_caveats(self.classes, self.train_labels, self.test_labels, self.labels)
        if torch.equal(self.train_inputs, self.test_inputs):
            sentences.append("The test split holds the images of the training split: its scores say nothing of others.")
        if bool((self.train_inputs == self.train_inputs[:1]).all()):
            sentences.append("All training images are the same: nothing can be learnt from them.")
        return tuple(sentences)

    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) over the number of classes and every tensor's name, type, shape and bytes.

        Two runs used the same data exactly when their fingerprints agree. The data set's name does not count: MNIST
        read from another format is still MNIST; nor does what its classes are called.
        """
        return sha256_of(f"classes={self.classes};", self.to_arrays()[1])

    def to_arrays(self) -> tuple[Description, Arrays]:
        """Name and classes, and the four tensors as arrays that share their memory (copied only from a GPU)."""
        arrays = {name: as_array(getattr(self, name)) for name in ARRAY_NAMES}
        description = {"kind": "images", "name": self.name, "classes": self.classes, "labels": list(self.labels)}
        return description, arrays

    @classmethod
    def from_arrays(cls, description: Description, arrays: Arrays) -> ImageData:
        """The reverse of `to_arrays`, without a copy; read-only arrays are welcome.

        Raises:
            DataError: if an array is missing or the content does not pass `check`.
        """
        name = description["name"]
        tensors = as_tensors(name, arrays, ARRAY_NAMES)
        data = cls(name=name, classes=description["classes"], labels=tuple(description["labels"]), **tensors)
        data.check()
        return data
