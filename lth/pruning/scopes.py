"""Who wins: from scores to masks, with exact counts and ties broken by position."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lth.errors import LthError


def keep_highest(scores: torch.Tensor, mask: torch.Tensor, keep: int) -> torch.Tensor:
    """The `keep` highest-scored weights of those still in `mask`, for every seed.

    `scores` and `mask` are [seeds, weights]. Among equal scores the one that comes first is pruned first. A pruned
    weight never returns. Raises ValueError on scores that are not finite, or when fewer than `keep` remain.
    """
    alive = mask.sum(1)
    if bool((alive < keep).any()):
        raise ValueError(f"cannot keep {keep} weights: only {int(alive.min())} remain")
    if not bool(torch.isfinite(scores[mask]).all()):
        raise ValueError("scores of remaining weights are not finite; a diverged network cannot be pruned")
    ranked = torch.where(mask, scores, -torch.inf).sort(dim=1, stable=True).indices
    kept = torch.zeros_like(mask)
    if keep:
        kept.scatter_(1, ranked[:, ranked.shape[1] - keep:], True)
    return kept


def select(
    scores: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor], keep: Mapping[str, int]
) -> dict[str, torch.Tensor]:
    """New masks: per tensor named in `keep`, and one competition among all others under the key "" if it is there.

    Scores and masks are [seeds, *shape] per tensor. Raises LthError naming a layer that the competition would leave
    empty.
    """
    new = {name: keep_highest(scores[name].flatten(1), mask.flatten(1), keep[name]).view_as(mask)
           for name, mask in masks.items() if name in keep}
    if "" in keep:
        names = [name for name in masks if name not in keep]
        joined = keep_highest(torch.cat([scores[name].flatten(1) for name in names], 1),
                              torch.cat([masks[name].flatten(1) for name in names], 1), keep[""])
        for name, part in zip(names, joined.split([masks[name][0].numel() for name in names], 1), strict=True):
            if not bool(part.any(1).all()):
                raise LthError(f"global pruning to {keep['']} weights would leave layer {name!r} empty; "
                               "use fewer levels, a smaller pruning.fraction, or pruning.scope=layer")
            new[name] = part.view_as(masks[name])
    return {name: new[name] for name in masks}


def random_like(mask: torch.Tensor, generators: list[torch.Generator]) -> torch.Tensor:
    """A mask of the same shape [seeds, *shape] with each seed's count of ones in uniformly random positions."""
    flat = mask.flatten(1)
    drawn = torch.zeros_like(flat)
    for row, generator in enumerate(generators):
        order = torch.randperm(flat.shape[1], generator=generator)
        drawn[row, order[: int(flat[row].sum())]] = True
    return drawn.view_as(mask)
