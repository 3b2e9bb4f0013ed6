"""Fine-tuning: the trained weights stay, and so does the last learning rate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from lth.engine.optimizers import Optimizer
from lth.engine.recipe import Recipe, learning_rate
from lth.engine.schedules import Constant
from lth.rewinding.registry import Retraining, Source, register_rewind
from lth.settings import Steps, setting


@register_rewind("fine_tune", "Keep the trained weights and train on at the last learning rate (Renda et al. 2020).")
@dataclass(frozen=True)
class FineTune:
    """Fine-tuning: the trained weights stay, and so does the last learning rate."""

    source: ClassVar[Source] = "trained"
    trains: ClassVar[bool] = True
    kept_step: ClassVar[int | None] = None
    duration: Steps | None = setting(None, "How long; empty: as long as the training.")

    @staticmethod
    def check(section: Any) -> None:
        if section.duration is not None and int(section.duration[:-2]) == 0:
            raise ValueError("rewinding.duration must be at least one step; for no retraining at all use kind none")

    def retraining(self, recipe: Recipe) -> Retraining:
        steps = recipe.steps if self.duration is None else self.duration
        constant = replace(
            recipe,
            steps=steps,
            schedule=Constant(),
            optimizer=_at_rate(recipe, recipe.steps - 1),
            evaluate_every=min(recipe.evaluate_every, steps),
        )
        return Retraining(0, constant)


def _at_rate(recipe: Recipe, step: int) -> Optimizer:
    """The optimizer with the learning rate that the schedule reached at `step`."""
    at_rate: Optimizer = replace(recipe.optimizer, learning_rate=learning_rate(recipe, step))  # type: ignore[type-var]
    return at_rate
