"""Cohorts without their removed units: the same seeds as a smaller network, there and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from lth.engine.layout import Layout
from lth.engine.network import Network
from lth.models.calling import trained_and_held
from lth.structured.masks import cut, paste
from lth.structured.surgery import shrink
from lth.structured.units import UnitGroup

Tensors = Mapping[str, torch.Tensor]


def same_counts(alive: Sequence[torch.Tensor]) -> list[list[int]]:
    """The cohort's rows, parted by how many units of each group they keep: only equal networks can be stacked."""
    counts = torch.stack([units.sum(1) for units in alive], 1).tolist()
    parts: dict[tuple[int, ...], list[int]] = {}
    for row, key in enumerate(counts):
        parts.setdefault(tuple(key), []).append(row)
    return list(parts.values())


class SmallCohort:
    """Seeds that keep equal numbers of units, as a smaller network of their own.

    `alive` is one bool [seeds, units] per group. `network` is the small one; `cut` takes rows [seeds, width] and
    buffers of the whole network to it and `paste` brings them back, zero wherever a unit is removed.
    """

    def __init__(self, whole: Network, groups: Sequence[UnitGroup], alive: Sequence[torch.Tensor]) -> None:
        self.whole, self.groups, self.alive = whole, groups, alive
        first = [units[0] for units in alive]
        module = shrink(whole.module, groups, first)
        trained, held = trained_and_held(module)
        shapes = {name: tuple(parameter.shape) for name, parameter in trained.items()}
        prunable = tuple(replace(tensor, shape=shapes[tensor.name]) for tensor in whole.prunable)
        self.network = replace(
            whole,
            module=module,
            build=lambda: shrink(whole.build(), groups, first),
            layout=Layout.of(shapes),
            buffers={name: tensor.clone() for name, tensor in held.items()},
            prunable=prunable,
        )

    def cut(self, rows: torch.Tensor, buffers: Tensors) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        small = cut(self.groups, self.alive, {**self.whole.layout.views(rows), **buffers})
        return (
            self.network.layout.rows({slot.name: small[slot.name] for slot in self.network.layout.slots}),
            {name: small[name] for name in buffers},
        )

    def paste(self, rows: torch.Tensor, buffers: Tensors) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        shapes = {slot.name: slot.shape for slot in self.whole.layout.slots}
        shapes.update({name: tuple(buffer.shape) for name, buffer in self.whole.buffers.items()})
        full = paste(self.groups, self.alive, {**self.network.layout.views(rows), **buffers}, shapes)
        return (
            self.whole.layout.rows({slot.name: full[slot.name] for slot in self.whole.layout.slots}),
            {name: full[name] for name in buffers},
        )
