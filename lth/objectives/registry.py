"""The registry of objectives: what is learnt and how it is scored, each with its settings in a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

import torch

from lth.objectives.scores import SCORES, Score
from lth.registry import Registry


@dataclass(frozen=True)
class Target:
    """What the targets of a data set look like: one of so many classes (int64, from 0), or a number (float32)."""

    kind: Literal["class", "number"]
    classes: int = 0


class Objective(Protocol):
    """The settings of an objective, and its arithmetic.

    Settings are fields (see `lth.settings`); `score` is one of them, the name of a registered score. Outputs are what
    the network answers, targets what the data set holds.
    """

    @property
    def score(self) -> str:
        """What networks are judged by: a name in SCORES."""

    def outputs(self, target: Target) -> int:
        """Numbers that the network must answer for an example. Raises InvalidExperiment for targets that it cannot
        learn."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of one seed's batch: outputs [batch, outputs], targets [batch]. Differentiable, in any
        floating-point type."""

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss of each example, [seeds, batch], of outputs [seeds, batch, outputs]."""


@runtime_checkable
class HasOutputGradient(Protocol):
    """An objective that knows its gradient by hand: programs without autograd can then train it."""

    def output_gradient(
        self, outputs: torch.Tensor, targets: torch.Tensor, out: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write d(mean loss)/d(outputs) into `out` [seeds, batch, outputs].

        Returns the batch's summed loss, float64 [seeds], and the sums of its score, float64 [sums, seeds].
        """


OBJECTIVES: Registry[type] = Registry("objective", Objective)
Class = TypeVar("Class", bound=type)


def register_objective(name: str, description: str) -> Callable[[Class], Class]:
    """Decorator: make an objective, a frozen dataclass of settings with the methods of `Objective`, known by `name`."""

    def register(objective: Class) -> Class:
        OBJECTIVES.add(name, objective, description, objective)
        return objective

    return register


def score_of(objective: Objective) -> Score:
    """What the networks of an objective are judged by."""
    return SCORES[objective.score]
