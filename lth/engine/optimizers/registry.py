"""The registry of optimizers: how gradients become weights, each with its settings in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import torch

from lth.registry import Registry

Moments = Mapping[str, torch.Tensor]


class Optimizer(Protocol):
    """The settings of an optimizer, and its arithmetic over a whole cohort.

    Settings are fields (see `lth.settings`), `learning_rate` among them. What it remembers from step to step are its
    moments: tensors of the weights' shape [seeds, n], zero before the first step, or scalars that count. A weight that
    is zero, with zero moments and zero gradients, must stay zero: so pruned weights do.
    """

    @property
    def learning_rate(self) -> float:
        """The full rate; a schedule makes each step's of it."""

    def moments(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """What it remembers, before the first step."""

    def step(self, weights: torch.Tensor, gradient: torch.Tensor, moments: Moments, learning_rate: float) -> None:
        """Change weights and moments in place."""


OPTIMIZERS: Registry[type] = Registry("optimizer", Optimizer)
Class = TypeVar("Class", bound=type)


def register_optimizer(name: str, description: str) -> Callable[[Class], Class]:
    """Decorator: make an optimizer, a frozen dataclass of settings with the methods of `Optimizer`, known by `name`."""

    def register(optimizer: Class) -> Class:
        OPTIMIZERS.add(name, optimizer, description, optimizer)
        return optimizer

    return register
