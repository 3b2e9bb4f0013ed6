"""The ticket itself, and the controls that a claim needs. Each is one function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from lth.arms.registry import Draw, Ticket, register_arm
from lth.engine.network import initial_buffers, initialise
from lth.pruning.selection import random_like
from lth.streams import stream
from lth.structured.masks import alive_units, unit_masks

Move = Callable[[torch.Tensor, list[torch.Generator]], torch.Tensor]


@register_arm("ticket", "the mask with the weights that it is rewound to; at level 0 the dense network", random=False)
def ticket(ticket: Ticket, draw: Draw) -> Ticket:
    """The ticket, unchanged."""
    return ticket


@register_arm(
    "dense",
    "the dense network, trained once for as long as all trainings up to the ticket took together",
    random=False,
    fresh=True,
    whole_budget=True,
)
def dense(ticket: Ticket, draw: Draw) -> Ticket:
    """Nothing pruned, the seed's own initial weights: what the ticket's whole budget buys without pruning."""
    fresh = (draw.network, draw.seeds)
    return Ticket(
        {name: torch.ones_like(mask) for name, mask in ticket.masks.items()},
        initialise(*fresh),
        initial_buffers(*fresh),
    )


@register_arm("reinit", "the ticket's mask with freshly drawn initial weights, trained from step 0", fresh=True)
def reinit(ticket: Ticket, draw: Draw) -> Ticket:
    """The same structure, another initialisation, anew at every level and draw (Frankle & Carbin 2019)."""
    fresh = (draw.network, draw.seeds, f"reinit/level {draw.level}", draw.draw)
    return replace(ticket, weights=initialise(*fresh), buffers=initial_buffers(*fresh))


@register_arm(
    "reinit_sign", "the ticket's mask and the signs of its initial weights, their magnitudes drawn anew", fresh=True
)
def reinit_sign(ticket: Ticket, draw: Draw) -> Ticket:
    """sign(w_0) |v| with v a fresh initialisation (Zhou et al. 2019); what is not prunable is drawn anew as a whole."""
    drawn = reinit(ticket, draw)
    initial, fresh = (draw.network.layout.views(rows) for rows in (initialise(draw.network, draw.seeds), drawn.weights))
    return replace(
        drawn,
        weights=_with(
            drawn.weights, draw, {name: torch.copysign(fresh[name].abs(), initial[name]) for name in ticket.masks}
        ),
    )


@register_arm(
    "reinit_constant_sign",
    "the ticket's mask; every initial weight is its sign times its layer's deviation",
    random=False,
    fresh=True,
)
def reinit_constant_sign(ticket: Ticket, draw: Draw) -> Ticket:
    """sign(w_0) sigma, sigma the standard deviation of the seed's initial weights in that layer (Zhou et al. 2019)."""
    weights = initialise(draw.network, draw.seeds)
    initial = draw.network.layout.views(weights)
    signed = {}
    for name in ticket.masks:
        deviation = initial[name].flatten(1).std(1).view(-1, *[1] * (initial[name].ndim - 1))
        signed[name] = torch.copysign(deviation.expand_as(initial[name]), initial[name])
    return replace(ticket, weights=_with(weights, draw, signed), buffers=initial_buffers(draw.network, draw.seeds))


@register_arm("random_mask", "the ticket's weights with a random mask of the same count in every layer")
def random_mask(ticket: Ticket, draw: Draw) -> Ticket:
    """The ticket's own starting weights, but a uniformly random mask with the ticket's count per layer.

    Where whole units are pruned, random units of the ticket's count in every group.
    """
    return replace(ticket, masks=_moved(ticket, draw, "random_mask", random_like))


@register_arm(
    "shuffled_mask",
    "the ticket's mask permuted within each layer: random_mask under another name (Frankle et al. 2021)",
)
def shuffled_mask(ticket: Ticket, draw: Draw) -> Ticket:
    """The ticket's mask moved: the check of "Pruning at initialization: why are we missing the mark?".

    A permuted mask is distributed as a random one of the same count: the arm `random_mask` under another stream. Both
    exist because both names do; use one of them.
    """
    return replace(ticket, masks=_moved(ticket, draw, "shuffled_mask", _permuted))


@register_arm("shuffled_weights", "the ticket's mask, its initial weights permuted within each layer", fresh=True)
def shuffled_weights(ticket: Ticket, draw: Draw) -> Ticket:
    """The same numbers in other places: does the ticket need its weights, or only their distribution?"""
    weights = initialise(draw.network, draw.seeds)
    initial = draw.network.layout.views(weights)
    moved = {
        name: _permuted(
            initial[name], [stream(seed, f"shuffled_weights/{name}", draw.level, draw.draw) for seed in draw.seeds]
        )
        for name in ticket.masks
    }
    return replace(ticket, weights=_with(weights, draw, moved), buffers=initial_buffers(draw.network, draw.seeds))


def _moved(ticket: Ticket, draw: Draw, purpose: str, move: Move) -> dict[str, torch.Tensor]:
    """The ticket's masks with every layer moved by itself; of units, every group's units."""

    def generators(name: str) -> list[torch.Generator]:
        return [stream(seed, f"{purpose}/{name}", draw.level, draw.draw) for seed in draw.seeds]

    if not draw.groups:
        return {name: move(mask, generators(name)) for name, mask in ticket.masks.items()}
    alive = [
        move(units, generators(group.name))
        for group, units in zip(draw.groups, alive_units(draw.groups, ticket.masks), strict=True)
    ]
    shapes = {name: tuple(mask.shape[1:]) for name, mask in ticket.masks.items()}
    return {**ticket.masks, **unit_masks(draw.groups, alive, shapes)}


def _permuted(tensor: torch.Tensor, generators: list[torch.Generator]) -> torch.Tensor:
    """Each seed's entries of [seeds, *shape] in an order of its own."""
    return torch.stack(
        [
            row.flatten()[torch.randperm(row.numel(), generator=generator)].view_as(row)
            for generator, row in zip(generators, tensor, strict=True)
        ]
    )


def _with(rows: torch.Tensor, draw: Draw, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """A copy of `rows` with some tensors replaced."""
    changed = rows.clone()
    views = draw.network.layout.views(changed)
    for name, tensor in tensors.items():
        views[name].copy_(tensor)
    return changed
