"""Learning-rate rewinding: the trained weights stay, the schedule starts again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lth.engine.recipe import Recipe
from lth.rewinding.registry import Retraining, Source, register_rewind


@register_rewind(
    "learning_rate",
    "Keep the trained weights and train again from step 0 of the learning-rate schedule (LRR; Renda et al. 2020).",
)
@dataclass(frozen=True)
class RewindLearningRate:
    """Learning-rate rewinding: the trained weights stay, the schedule starts again."""

    source: ClassVar[Source] = "trained"
    trains: ClassVar[bool] = True
    kept_step: ClassVar[int | None] = None

    def retraining(self, recipe: Recipe) -> Retraining:
        return Retraining(0, recipe)
