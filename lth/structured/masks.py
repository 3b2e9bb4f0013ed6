"""Between units, masks and smaller tensors, for cohorts: `alive` is one bool [seeds, units] per group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from lth.structured.units import UnitGroup, per_unit


def unit_masks(
    groups: Sequence[UnitGroup], alive: Sequence[torch.Tensor], shapes: Mapping[str, Sequence[int]]
) -> dict[str, torch.Tensor]:
    """Masks [seeds, *shape] (bool) of every tensor in `shapes` that a group touches.

    An entry remains if no removed unit writes or reads it. Training under these masks (weights, biases and norms)
    is training the network without the units.
    """
    masks = {}
    for name in _touched(groups, shapes):
        mask = torch.ones(len(alive[0]), *shapes[name], dtype=torch.bool, device=alive[0].device)
        for dim, kept in enumerate(_kept(groups, alive, name, shapes[name])):
            mask &= _along(kept, dim, mask.shape)
        masks[name] = mask
    return masks


def alive_units(groups: Sequence[UnitGroup], masks: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """Which units remain under masks [seeds, *shape] of the prunable weights: one bool [seeds, units] per group.

    A unit remains if any weight that writes it does: the inverse of `unit_masks` while no group is empty.
    """
    return [
        torch.cat([per_unit(masks[writer.tensor], writer) for writer in group.writers], 2).any(2) for group in groups
    ]


def kept_indices(
    groups: Sequence[UnitGroup], alive: Sequence[torch.Tensor], name: str, shape: Sequence[int]
) -> list[torch.Tensor]:
    """For each dimension of the parameter or buffer `name`, which of its slices remain: int64 [seeds, kept slices].

    Raises ValueError when the seeds keep different numbers of units, for what remains of them does not stack.
    """
    indices = []
    for kept in _kept(groups, alive, name, shape):
        counts = kept.sum(1)
        if not bool((counts == counts[0]).all()):
            raise ValueError(
                f"the seeds keep different numbers of units in {name!r}: from {int(counts.min())} to "
                f"{int(counts.max())}; cut only seeds of equal counts together"
            )
        indices.append(kept.nonzero()[:, 1].view(len(kept), -1))
    return indices


def cut(
    groups: Sequence[UnitGroup], alive: Sequence[torch.Tensor], tensors: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Parameters and buffers [seeds, *shape] without the removed units: [seeds, *smaller shape].

    What loses nothing is handed through, not copied. Raises ValueError as `kept_indices` does.
    """
    small = dict(tensors)
    for name in _touched(groups, tensors):
        for dim, index in enumerate(kept_indices(groups, alive, name, tensors[name].shape[1:])):
            if index.shape[1] < small[name].shape[dim + 1]:
                small[name] = small[name].gather(dim + 1, _along(index, dim, small[name].shape))
    return small


def paste(
    groups: Sequence[UnitGroup],
    alive: Sequence[torch.Tensor],
    small: Mapping[str, torch.Tensor],
    shapes: Mapping[str, Sequence[int]],
) -> dict[str, torch.Tensor]:
    """The inverse of `cut`: tensors of full `shapes` [seeds, *shape], zero wherever a unit is removed."""
    full = dict(small)
    for name in _touched(groups, small):
        for dim, index in enumerate(kept_indices(groups, alive, name, shapes[name])):
            part = full[name]
            if index.shape[1] < shapes[name][dim]:
                grown = part.new_zeros(*part.shape[: dim + 1], shapes[name][dim], *part.shape[dim + 2 :])
                full[name] = grown.scatter_(dim + 1, _along(index, dim, part.shape), part)
    return full


def _kept(
    groups: Sequence[UnitGroup], alive: Sequence[torch.Tensor], name: str, shape: Sequence[int]
) -> list[torch.Tensor]:
    """For each dimension, which slices remain: bool [seeds, shape[dim]]."""
    kept = [torch.ones(len(alive[0]), size, dtype=torch.bool, device=alive[0].device) for size in shape]
    for group, units in zip(groups, alive, strict=True):
        for slices in group.slices:
            if slices.tensor == name:
                kept[slices.dim][:, slices.index] &= units[:, :, None]
    return kept


def _along(rows: torch.Tensor, dim: int, shape: Sequence[int]) -> torch.Tensor:
    """`rows` [seeds, n] along dimension `dim` of tensors of `shape` [seeds, ...], expanded over the other ones."""
    seeds, *rest = shape
    rest[dim] = rows.shape[1]
    return rows.view(seeds, *[1] * dim, -1, *[1] * (len(rest) - dim - 1)).expand(seeds, *rest)


def _touched(groups: Sequence[UnitGroup], names: Mapping[str, object]) -> list[str]:
    touched = {slices.tensor for group in groups for slices in group.slices}
    return [name for name in names if name in touched]
