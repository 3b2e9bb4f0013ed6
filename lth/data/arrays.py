"""A data set taken apart into plain data and arrays, so that it can lie in memory that several processes share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lth.errors import DataError
from lth.shared_memory import tensor_over

Description = dict[str, Any]
"""What a data set is besides its arrays: JSON data with its `kind`, a name in `lth.data.kinds`."""
Arrays = Mapping[str, np.ndarray[Any, Any]]


def as_array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """The same memory as an array (copied only from a GPU)."""
    array: np.ndarray[Any, Any] = tensor.detach().cpu().numpy()
    return array


def as_tensors(name: str, arrays: Arrays, wanted: Sequence[str]) -> dict[str, torch.Tensor]:
    """The wanted arrays of the data set called `name` as tensors on the same memory; read-only ones are welcome.

    Raises DataError naming an array that is missing.
    """
    for key in wanted:
        if key not in arrays:
            raise DataError(f"data set {name!r} lacks the array {key!r}: it needs {', '.join(wanted)}")
    return {key: tensor_over(arrays[key]) for key in wanted}


def sha256_of(header: str, arrays: Arrays) -> str:
    """64 hex digits over a text and the name, type, shape and bytes of every array."""
    digest = hashlib.sha256(header.encode())
    for name, array in arrays.items():
        # Explicitly little-endian, so that the digest does not depend on the machine's byte order.
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{name}:{array.dtype.name}:{array.shape};".encode())
        digest.update(little.data)
    return digest.hexdigest()


def type_and_shape(tensor: torch.Tensor) -> str:
    """For a person: `uint8 [4, 1, 2, 3]`."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
