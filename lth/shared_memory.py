"""Tensors over memory that several processes share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


class _SharedMemory:
    """Presents an array's memory as writeable and keeps the array alive for as long as anybody uses it."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        address, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}
        self.array = array


def tensor_over(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """`torch.from_numpy` without its warning about read-only arrays: torch has no such tensors, and nobody writes."""
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_SharedMemory(array)))
