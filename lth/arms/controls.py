"""The ticket itself, and the controls that a claim needs (Frankle & Carbin 2019, sections 2 and 3)."""

from __future__ import annotations

from dataclasses import replace

from lth.arms.registry import Draw, Ticket, register_arm
from lth.engine.network import initial_buffers, initialise
from lth.pruning.scopes import random_like
from lth.streams import stream


@register_arm("ticket", "the mask with the weights that it is rewound to; at level 0 the dense network")
def ticket(ticket: Ticket, draw: Draw) -> Ticket:
    """The ticket, unchanged."""
    return ticket


@register_arm("reinit", "the ticket's mask with freshly drawn initial weights, trained from step 0")
def reinit(ticket: Ticket, draw: Draw) -> Ticket:
    """The same structure, another initialisation, anew at every level and draw; trained for the whole duration."""
    fresh = (draw.network, draw.seeds, f"reinit/level {draw.level}", draw.draw)
    return replace(ticket, weights=initialise(*fresh), buffers=initial_buffers(*fresh), step=0)


@register_arm("random_mask", "the ticket's weights with a random mask of the same count in every layer")
def random_mask(ticket: Ticket, draw: Draw) -> Ticket:
    """The ticket's own starting weights, but a uniformly random mask with the ticket's count per layer."""
    masks = {
        name: random_like(mask, [stream(seed, f"random_mask/{name}", draw.level, draw.draw) for seed in draw.seeds])
        for name, mask in ticket.masks.items()
    }
    return replace(ticket, masks=masks)
