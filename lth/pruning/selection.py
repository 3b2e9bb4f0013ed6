"""Who wins: from scores to masks, with exact counts and ties broken by position."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lth.errors import LthError


class PruningFailed(LthError):
    """Some seeds cannot be pruned so. `rows` are their places in the cohort."""

    def __init__(self, message: str, rows: list[int]) -> None:
        super().__init__(message)
        self.rows = rows


def keep_highest(scores: torch.Tensor, mask: torch.Tensor, keep: int) -> torch.Tensor:
    """The `keep` highest-scored weights of those still in `mask`, for every seed.

    `scores` and `mask` are [seeds, weights]. Among equal scores the one that comes first is pruned first. A pruned
    weight never returns. Raises PruningFailed on scores that are not finite and
    where fewer than `keep` remain.
    """
    alive = mask.sum(1)
    if bool((alive < keep).any()):
        raise PruningFailed(
            f"cannot keep {keep} weights: only {int(alive.min())} remain; if a watcher of the training prunes, let the "
            "ladder begin below it",
            (alive < keep).nonzero().flatten().tolist(),
        )
    broken = (mask & ~torch.isfinite(scores)).any(1)
    if bool(broken.any()):
        raise PruningFailed(
            "the scores of remaining weights are not finite; lower the learning rate, or mend the criterion",
            broken.nonzero().flatten().tolist(),
        )
    pruned = mask.shape[1] - keep
    if pruned == 0 or keep == 0:
        return mask.clone() if keep else torch.zeros_like(mask)
    # Linear in the number of weights, which sorting is not: SynFlow comes here a hundred times for one mask.
    ranked = torch.where(mask, scores, -torch.inf)
    threshold = ranked.kthvalue(pruned, dim=1, keepdim=True).values
    kept = ranked > threshold
    still = keep - kept.sum(1, keepdim=True)
    if not bool(still.any()):
        return kept
    ties = ranked == threshold
    last_first = ties.flip(1).cumsum(1).flip(1)  # counts ties from the end: the last of them stay
    return kept | (ties & (last_first <= still) & mask)


def select(
    scores: Mapping[str, torch.Tensor],
    masks: Mapping[str, torch.Tensor],
    keep: Mapping[str, int],
    allow_empty: bool = False,
) -> dict[str, torch.Tensor]:
    """New masks: per tensor named in `keep`, and one competition among all others under the key "" if it is there.

    Scores and masks are [seeds, *shape] per tensor. Raises PruningFailed naming a layer that the competition would
    leave empty, unless `allow_empty`.
    """
    new = {
        name: keep_highest(scores[name].flatten(1), mask.flatten(1), keep[name]).view_as(mask)
        for name, mask in masks.items()
        if name in keep
    }
    if "" in keep:
        names = [name for name in masks if name not in keep]
        joined = keep_highest(
            torch.cat([scores[name].flatten(1) for name in names], 1),
            torch.cat([masks[name].flatten(1) for name in names], 1),
            keep[""],
        )
        for name, part in zip(names, joined.split([masks[name][0].numel() for name in names], 1), strict=True):
            empty = ~part.any(1)
            if not allow_empty and bool(empty.any()):
                raise PruningFailed(
                    f"global pruning to {keep['']} weights would leave layer {name!r} empty; "
                    "prune less, choose another pruning.scope, or set pruning.allow_empty_layers",
                    empty.nonzero().flatten().tolist(),
                )
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
