"""Scores of units, and who wins: by group, or in one competition of all groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from lth.errors import InvalidExperiment, LthError
from lth.pruning.selection import keep_highest
from lth.structured.criteria import UNIT_CRITERIA
from lth.structured.masks import unit_masks
from lth.structured.units import UnitGroup, per_unit


def unit_scores(
    groups: Sequence[UnitGroup],
    alive: Sequence[torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    criterion: str,
) -> list[torch.Tensor]:
    """The score of every unit: [seeds, units] per group, from trained `tensors` [seeds, *shape].

    Raises InvalidExperiment for a criterion that there is not, or for a group without what it needs.
    """
    chosen = UNIT_CRITERIA[criterion]
    check_units(groups, criterion)
    scores = []
    for group in groups:
        evidence = {}
        if {"weights", "remaining"} & set(chosen.needs):
            shapes = {writer.tensor: tensors[writer.tensor].shape[1:] for writer in group.writers}
            masks = unit_masks(groups, alive, shapes)
            there = torch.cat([per_unit(masks[writer.tensor], writer) for writer in group.writers], 2)
            written = torch.cat([per_unit(tensors[writer.tensor], writer) for writer in group.writers], 2)
            evidence = {"weights": written * there, "remaining": there}
        if chosen.needs_norms:
            evidence["scales"] = torch.cat([per_unit(tensors[norm.tensor], norm) for norm in group.norms], 2)
        score = chosen.score(**{need: evidence[need] for need in chosen.needs})
        if not isinstance(score, torch.Tensor) or tuple(score.shape) != (len(alive[0]), group.units):
            shape = list(score.shape) if isinstance(score, torch.Tensor) else type(score).__name__
            raise LthError(
                f"criterion {criterion!r} answers {shape} for the units of {group.name!r}; it must give a score for "
                f"every unit, {[len(alive[0]), group.units]}"
            )
        scores.append(score.to(tensors[group.writers[0].tensor].dtype))
    return scores


def check_units(groups: Sequence[UnitGroup], criterion: str) -> None:
    """Raises InvalidExperiment naming a group without batch norm, if the criterion scores those."""
    bare = [group.name for group in groups if not group.norms]
    if bare and UNIT_CRITERIA[criterion].needs_norms:
        raise InvalidExperiment(
            f"criterion {criterion} needs a batch norm on the units of {bare[0]!r}; "
            "use l1 or l2, or take it out of model.prunable"
        )


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
