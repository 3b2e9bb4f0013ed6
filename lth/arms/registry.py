"""The ticket of a cohort, and the registry of arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from lth.engine.network import Network
from lth.errors import LthError
from lth.registry import Registry
from lth.structured.units import UnitGroup


@dataclass(frozen=True)
class Ticket:
    """A cohort's masks and the weights that they are rewound to.

    `masks`: prunable tensor -> bool [seeds, *shape]. `weights`: rows [seeds, width], not yet masked. `buffers`: name ->
    [seeds, *shape].
    """

    masks: Mapping[str, torch.Tensor]
    weights: torch.Tensor
    buffers: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Draw:
    """Which draw of an arm this is: the network, the seeds of the cohort, the level and the draw's number.

    `groups` are the units of the network where whole units are pruned; else there are none.
    """

    network: Network
    seeds: tuple[int, ...]
    level: int
    draw: int
    groups: tuple[UnitGroup, ...] = ()


ArmFunction = Callable[[Ticket, Draw], Ticket]


@dataclass(frozen=True)
class RegisteredArm:
    """What is trained at a level: a function of the ticket, and how it is trained.

    `random`: there can be several draws of it for a seed. `fresh`: its weights have not been trained, so it is trained
    like the dense network, from step 0 and for the whole duration, whatever the rewinding. `whole_budget`: it is
    trained once for as many steps as the dense training and all retrainings up to the ticket took together, its
    schedule stretched.
    """

    make: ArmFunction
    random: bool = True
    fresh: bool = False
    whole_budget: bool = False


ARMS: Registry[RegisteredArm] = Registry("arm", RegisteredArm)


def register_arm(
    name: str, description: str, *, random: bool = True, fresh: bool = False, whole_budget: bool = False
) -> Callable[[ArmFunction], ArmFunction]:
    """Decorator: make an arm known by `name`; see `RegisteredArm` for the options.

        @register_arm("flipped", "the ticket's mask, its weights with the opposite sign", random=False, fresh=True)
        def flipped(ticket, draw):
            return replace(ticket, weights=-ticket.weights)

    Raises InvalidExperiment if another arm has that name already.
    """

    def register(make: ArmFunction) -> ArmFunction:
        ARMS.add(name, RegisteredArm(make, random, fresh, whole_budget), description, make)
        return make

    return register


def arm_names() -> dict[str, str]:
    """Every registered arm and its one-line description."""
    return ARMS.names()


def checked(name: str, ticket: Ticket, draw: Draw) -> Ticket:
    """What an arm has made, if it can be trained. Raises LthError naming the arm and what is wrong with it."""
    width = (len(draw.seeds), draw.network.layout.width)
    if not isinstance(ticket, Ticket):
        raise LthError(f"arm {name!r} returned {type(ticket).__name__}; it must return the Ticket to train")
    if tuple(ticket.weights.shape) != width:
        raise LthError(f"arm {name!r} returned weights {list(ticket.weights.shape)}; they must be rows {list(width)}")
    for tensor in draw.network.prunable:
        mask, shape = ticket.masks.get(tensor.name), (len(draw.seeds), *tensor.shape)
        if mask is None or mask.dtype != torch.bool or tuple(mask.shape) != shape:
            given = "none" if mask is None else f"{mask.dtype} {list(mask.shape)}"
            raise LthError(
                f"arm {name!r} returned a mask of {tensor.name!r} that is {given}; it must be bool {list(shape)}"
            )
    return ticket
