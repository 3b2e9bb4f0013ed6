"""The registry of watchers: what sees a training as it goes, keeps something, ends it, or changes its mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch

from lth.engine.state import CohortState, Kept
from lth.registry import Registry


@dataclass(frozen=True)
class Evaluation:
    """What was measured at a step on the validation split, float64 [seeds] each: loss and score."""

    loss: torch.Tensor
    score: torch.Tensor


@dataclass(frozen=True)
class Change:
    """What a watcher asks for.

    `mask`: bool rows [seeds, width], from the next step on. Weights that it removes become zero, and so do their
    moments; weights that it adds begin at zero, with moments of zero. Of seeds that lose weights early stop is searched
    anew. `end`: bool [seeds], whose training is to end at its next evaluation (or at this one), so that every curve
    ends with a measurement, and not before its rewind point is kept; the others train on.
    """

    mask: torch.Tensor | None = None
    end: torch.Tensor | None = None


class Watcher:
    """A frozen dataclass of settings (see `lth.settings`) with any of these methods; the others do nothing.

    What it keeps lies in `state.kept[name]`, is saved with the state, and must have the seeds as its first axis: a
    seed's rows may depend on that seed alone. Nothing else of the state is its to write to.
    """

    name: ClassVar[str]
    """What it is registered under."""
    changes_mask: ClassVar[bool] = False
    """Whether it may ask for another mask. The mask that is stored is then the one that a training ended with: it takes
    no controls, no removal of units, and is not repeated from what is stored."""

    def begin(self, state: CohortState) -> Kept:
        """What it keeps from the start on, before the first evaluation, on the device of `state.weights`: every tensor
        that it will ever keep, but for the rewind point, which all seeds have from the same step on."""
        return {}

    def on_gradient(self, state: CohortState, kept: Kept, gradient: torch.Tensor) -> None:
        """Before the optimizer's step. `gradient` are rows [seeds, width] of all weights, pruned ones among them."""

    def on_step(self, state: CohortState, kept: Kept) -> Change | None:
        """After a step, `state.step` counting it; also once before the first one."""
        return None

    def on_epoch(self, state: CohortState, kept: Kept) -> Change | None:
        """After the last step of an epoch."""
        return None

    def on_evaluation(self, state: CohortState, kept: Kept, evaluation: Evaluation) -> Change | None:
        """After an evaluation on the validation split, the one before the first step among them."""
        return None


WATCHERS: Registry[type[Watcher]] = Registry("watcher", Watcher)
W = TypeVar("W", bound=type[Watcher])


def register_watcher(name: str, description: str) -> Callable[[W], W]:
    """Decorator: make a watcher known by `name`.

        @register_watcher("largest", "the largest magnitude that each weight ever had")
        @dataclass(frozen=True)
        class Largest(Watcher):
            def begin(self, state):
                return {"largest": state.weights.abs()}

            def on_step(self, state, kept):
                torch.maximum(kept["largest"], state.weights.abs(), out=kept["largest"])

    A criterion whose evidence is called as a watcher is given the rows [seeds, width] that it keeps under its own name.
    """

    def register(watcher: W) -> W:
        watcher.name = name
        WATCHERS.add(name, watcher, description, watcher)
        return watcher

    return register
