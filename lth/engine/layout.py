"""One row of memory per seed: where each parameter lies in it.

All parameters of a cohort live in one tensor [seeds, width]. Every parameter begins at a multiple of 16 floats and
the width is one, so that (a) the vector loops of fused optimizers treat a weight the same wherever its seed stands in
the cohort, and (b) an optimizer step, a mask or a copy of a whole cohort is one operation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

ALIGNMENT = 16  # floats: 64 bytes, a cache line and the widest vector register


def padded(size: int) -> int:
    """The next multiple of the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Slot:
    """Where one parameter lies in a seed's row."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """The slots of every parameter and the width of a row, in floats. The last float of a row is always padding."""

    slots: tuple[Slot, ...]
    width: int

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]]) -> Layout:
        """Lay out parameters in the given order."""
        slots, offset = [], 0
        for name, shape in shapes.items():
            slots.append(Slot(name, tuple(shape), offset))
            offset += padded(math.prod(shape))
        end = slots[-1].offset + slots[-1].size if slots else 0
        return cls(tuple(slots), padded(end + 1))

    def views(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every parameter of `rows` [seeds, width] as a view [seeds, *shape]."""
        return {
            slot.name: rows[:, slot.offset : slot.offset + slot.size]
            .unflatten(1, slot.shape or (1,))
            .view(rows.shape[0], *slot.shape)
            for slot in self.slots
        }

    def rows(self, tensors: Mapping[str, torch.Tensor], fill: float = 0.0) -> torch.Tensor:
        """Pack tensors [seeds, *shape] into rows [seeds, width]; absent parameters and padding hold `fill`."""
        first = next(iter(tensors.values()))
        rows = torch.full((first.shape[0], self.width), fill, dtype=torch.float32, device=first.device)
        views = self.views(rows)
        for name, tensor in tensors.items():
            views[name].copy_(tensor)
        return rows
