"""The ticket of a cohort, and the registry of arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from lth.engine.network import Network


@dataclass(frozen=True)
class Ticket:
    """A cohort's masks and the weights that they are rewound to.

    `masks`: prunable tensor -> bool [seeds, *shape]. `weights`: rows [seeds, width], not yet masked. `buffers`: name ->
    [seeds, *shape]. `step`: the step at which training resumes (0, or k of late rewinding).
    """

    masks: Mapping[str, torch.Tensor]
    weights: torch.Tensor
    buffers: Mapping[str, torch.Tensor]
    step: int = 0


@dataclass(frozen=True)
class Draw:
    """Which draw of an arm this is: the network, the seeds of the cohort, the level and the draw's number."""

    network: Network
    seeds: tuple[int, ...]
    level: int
    draw: int


ArmFunction = Callable[[Ticket, Draw], Ticket]
ARMS: dict[str, tuple[ArmFunction, str]] = {}


def register_arm(name: str, description: str) -> Callable[[ArmFunction], ArmFunction]:
    """Decorator: make an arm known by `name`."""

    def register(arm: ArmFunction) -> ArmFunction:
        ARMS[name] = (arm, description)
        return arm

    return register


def arm_names() -> dict[str, str]:
    """Every registered arm and its one-line description."""
    return {name: description for name, (_, description) in sorted(ARMS.items())}
