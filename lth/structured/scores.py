"""Scores of units, and who wins: by group, or in one competition of all groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch

from lth.errors import InvalidExperiment
from lth.pruning.scopes import keep_highest
from lth.structured.masks import unit_masks
from lth.structured.units import UnitGroup, per_unit

UnitCriterion = Literal["l1", "l2", "bn_scale"]


def unit_scores(
    groups: Sequence[UnitGroup],
    alive: Sequence[torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    criterion: UnitCriterion,
) -> list[torch.Tensor]:
    """The score of every unit: [seeds, units] per group, from trained `tensors` [seeds, *shape].

    `l1`: mean |w| over the remaining weights that write the unit, biases apart. Within a group that is the order of
    the sum of |w| (Li et al. 2017, who call it the filter's average magnitude), and it lets wide and narrow layers
    compete. `l2`: the root of their mean square (the norm, divided by the count as in Molchanov et al. 2017).
    `bn_scale`: mean |gamma| over the batch norms on the unit (Liu et al. 2017, who prune it across all layers).

    Raises InvalidExperiment for a group without batch norm under `bn_scale`.
    """
    if criterion == "bn_scale":
        for group in groups:
            if not group.norms:
                raise InvalidExperiment(
                    f"criterion bn_scale needs a batch norm on the units of {group.name!r}; "
                    "use l1 or l2, or take it out of model.prunable"
                )
        return [
            torch.cat([per_unit(tensors[norm.tensor], norm) for norm in group.norms], 2).abs().mean(2)
            for group in groups
        ]
    if criterion not in ("l1", "l2"):
        raise InvalidExperiment(f"unknown criterion {criterion!r} of units; use l1, l2 or bn_scale")
    scores = []
    for group in groups:
        shapes = {writer.tensor: tensors[writer.tensor].shape[1:] for writer in group.writers}
        masks = unit_masks(groups, alive, shapes)
        there = torch.cat([per_unit(masks[writer.tensor], writer) for writer in group.writers], 2)
        weights = torch.cat([per_unit(tensors[writer.tensor], writer) for writer in group.writers], 2) * there
        count = there.sum(2).clamp(min=1)
        # Sums in double precision: a seed's scores must not depend on how many seeds are summed beside it.
        if criterion == "l1":
            mean = weights.abs().sum(2, dtype=torch.float64) / count
        else:
            mean = (weights.square().sum(2, dtype=torch.float64) / count).sqrt()
        scores.append(mean.to(weights.dtype))
    return scores


def keep_units(
    groups: Sequence[UnitGroup],
    scores: Sequence[torch.Tensor],
    alive: Sequence[torch.Tensor],
    keep: Mapping[str, int],
) -> list[torch.Tensor]:
    """The units that stay alive: bool [seeds, units] per group.

    `keep` says how many units of each group remain, by its name, and under the key "" how many of all other groups
    together: these compete with one another, except that the best unit of each group stays whatever its score.
    Raises InvalidExperiment when a group would be left empty.
    """
    competing = [position for position, group in enumerate(groups) if group.name not in keep]
    for name, count in keep.items():
        if count < (1 if name else len(competing)):
            raise InvalidExperiment(
                f"keeping {count} units of {repr(name) if name else f'{len(competing)} groups'} "
                "would leave a group empty; use fewer levels or a smaller pruning.fraction"
            )
    if competing and "" not in keep:
        raise ValueError(f"nothing says how many units of {groups[competing[0]].name!r} to keep")
    kept = [
        keep_highest(score, units, keep.get(group.name, 1))
        for group, score, units in zip(groups, scores, alive, strict=True)
    ]
    if competing:
        best, among = (torch.cat([part[position] for position in competing], 1) for part in (kept, alive))
        joined = torch.cat([scores[position] for position in competing], 1)
        winners = best | keep_highest(joined, among & ~best, keep[""] - len(competing))
        for position, part in zip(competing, winners.split([groups[p].units for p in competing], 1), strict=True):
            kept[position] = part
    return kept
