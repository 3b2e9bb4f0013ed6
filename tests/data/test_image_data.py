"""The data set as tensors: what is refused, what identifies it, how it travels."""

from __future__ import annotations

import gc
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lth.data import ImageData, restore
from lth.errors import DataError


def tiny(**changes: Any) -> ImageData:
    """Four train and two test images of 1x2x3, three classes."""
    data = ImageData(
        name="tiny",
        train_inputs=torch.arange(24, dtype=torch.uint8).reshape(4, 1, 2, 3),
        train_labels=torch.tensor([0, 1, 2, 0]),
        test_inputs=torch.arange(12, dtype=torch.uint8).reshape(2, 1, 2, 3),
        test_labels=torch.tensor([2, 1]),
        classes=3,
    )
    return replace(data, **changes)


def test_shape_and_description() -> None:
    tiny().check()
    assert tiny().input_shape == (1, 2, 3)
    assert repr(tiny()) == "ImageData(tiny: 4 train + 2 test images of 1x2x3, 3 classes)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": torch.tensor([0, 11, 2, 0])}, r"train split of data set 'tiny' has the label 11.*0\.\.2"),
        ({"test_labels": torch.tensor([2, 3])}, r"test split of data set 'tiny' has the label 3: with 3 classes"),
        ({"test_labels": torch.tensor([-1, 1])}, "test split .* has the label -1"),
        ({"train_labels": torch.tensor([0, 1, 2])}, "train split .* has 4 images but 3 labels"),
        (
            {"test_inputs": torch.zeros(0, 1, 2, 3, dtype=torch.uint8), "test_labels": torch.zeros(0).long()},
            "test split .* is empty",
        ),
        ({"train_inputs": torch.zeros(4, 1, 2, 3)}, r"train split .* inputs of float32 \[4, 1, 2, 3\]"),
        ({"test_inputs": torch.zeros(2, 2, 3, dtype=torch.uint8)}, r"test split .* inputs of uint8 \[2, 2, 3\]"),
        ({"train_labels": torch.zeros(4, dtype=torch.int32)}, r"train split .* labels of int32 \[4\]"),
        ({"test_labels": torch.zeros(2, 1).long()}, r"test split .* labels of int64 \[2, 1\]"),
        ({"test_inputs": torch.zeros(2, 1, 3, 2, dtype=torch.uint8)}, r"train images of \[1, 2, 3\], test images of"),
    ],
)
def test_check_names_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        tiny(**changes).check()


def test_fingerprint_sees_every_part_of_the_data() -> None:
    pixel = tiny().train_inputs.clone()
    pixel[3, 0, 1, 2] += 1
    variants = [
        tiny(),
        tiny(train_inputs=pixel),
        tiny(train_labels=torch.tensor([0, 1, 2, 1])),
        tiny(test_labels=torch.tensor([1, 2])),
        tiny(classes=4),
        # The same bytes in another shape.
        tiny(
            train_inputs=tiny().train_inputs.reshape(4, 1, 3, 2),
            test_inputs=tiny().test_inputs.reshape(2, 1, 3, 2),
        ),
        # The same bytes with one image moved from one split to the other.
        tiny(
            train_inputs=tiny().train_inputs[:3],
            train_labels=tiny().train_labels[:3],
            test_inputs=torch.cat([tiny().train_inputs[3:], tiny().test_inputs]),
            test_labels=torch.cat([tiny().train_labels[3:], tiny().test_labels]),
        ),
    ]
    assert len({variant.fingerprint() for variant in variants}) == len(variants)
    assert all(len(variant.fingerprint()) == 64 for variant in variants)


def test_fingerprint_ignores_name_and_memory_layout() -> None:
    transposed = tiny().train_inputs.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert not transposed.is_contiguous()
    assert tiny(name="other", train_inputs=transposed).fingerprint() == tiny().fingerprint()


def test_read_only_arrays_are_taken_without_a_copy_or_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_warn_always(True)  # torch gives this warning once a process: an earlier test may have had it
    try:
        # `frombuffer` of bytes is read-only, as are arrays in Ray's shared memory.
        arrays = {
            key: np.frombuffer(array.tobytes(), dtype=array.dtype).reshape(array.shape)
            for key, array in tiny().to_arrays()[1].items()
        }
        assert not arrays["train_inputs"].flags.writeable
        with pytest.warns(UserWarning, match="not writable"):
            torch.from_numpy(arrays["train_inputs"])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = restore(tiny().to_arrays()[0], arrays)
    finally:
        torch.set_warn_always(False)
    assert data.train_inputs.data_ptr() == arrays["train_inputs"].ctypes.data
    assert data.test_labels.data_ptr() == arrays["test_labels"].ctypes.data
    assert data.fingerprint() == tiny().fingerprint()


def test_tensors_keep_the_memory_of_their_arrays_alive() -> None:
    freed = []

    class Watched(np.ndarray[Any, Any]):
        def __del__(self) -> None:
            freed.append(self.shape)

    arrays = {key: array.copy().view(Watched) for key, array in tiny().to_arrays()[1].items()}
    for array in arrays.values():
        array.flags.writeable = False
    data = restore(tiny().to_arrays()[0], arrays)
    arrays.clear()
    del array
    gc.collect()
    assert not freed
    assert data.fingerprint() == tiny().fingerprint()
    del data
    gc.collect()
    assert len(freed) == 4


def test_to_arrays_shares_memory() -> None:
    data = tiny()
    description, arrays = data.to_arrays()
    assert description == {"kind": "images", "name": "tiny", "classes": 3, "labels": []}
    assert list(arrays) == ["train_inputs", "train_labels", "test_inputs", "test_labels"]
    assert arrays["train_labels"].ctypes.data == data.train_labels.data_ptr()


def test_from_arrays_checks_what_it_is_given() -> None:
    description, arrays = tiny().to_arrays()
    with pytest.raises(DataError, match="train split of data set 'tiny' has the label 2"):
        restore({**description, "classes": 2}, arrays)
    del arrays["test_labels"]
    with pytest.raises(DataError, match="lacks the array 'test_labels'"):
        restore(description, arrays)
