"""Units: neurons, filters and channels, and where in a network's tensors each of them lives."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import torch


@dataclass(frozen=True, eq=False)
class Slices:
    """Which slices along dimension `dim` of the parameter or buffer `tensor` belong to each unit.

    `index` is int64 [units, k]: k is 1 for a filter's row, and height * width for the columns of a dense layer that
    reads a flattened channel.
    """

    tensor: str
    dim: int
    index: torch.Tensor


@dataclass(frozen=True, eq=False)
class UnitGroup:
    """Units that can only be removed from all of these tensors together; called by its first writer, `name`.

    `writers`: the weights whose outputs are the units (several where branches are summed, and depthwise filters, which
    a channel passes through). `norms`: the scales gamma of batch norms on the units. `others`: biases, shifts and
    running statistics. `readers`: the weights that take the units as inputs.
    """

    name: str
    units: int
    writers: tuple[Slices, ...]
    norms: tuple[Slices, ...]
    others: tuple[Slices, ...]
    readers: tuple[Slices, ...]

    @property
    def slices(self) -> tuple[Slices, ...]:
        """Everything that goes when a unit goes."""
        return tuple(chain(self.writers, self.norms, self.others, self.readers))


def per_unit(tensor: torch.Tensor, slices: Slices) -> torch.Tensor:
    """The entries of `tensor` [seeds, *shape] by unit: [seeds, units, entries of a unit]."""
    moved = tensor.movedim(slices.dim + 1, 1)
    return moved.reshape(*moved.shape[:2], -1)[:, slices.index].flatten(2)
