"""Neither rewound nor retrained: the pruned network as it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lth.engine.recipe import Recipe
from lth.rewinding.registry import Retraining, Source, register_rewind


@register_rewind("none", "Neither rewind nor retrain: the trained weights that are left are evaluated as they are.")
@dataclass(frozen=True)
class NoRewinding:
    """Neither rewound nor retrained: the pruned network as it stands."""

    source: ClassVar[Source] = "trained"
    trains: ClassVar[bool] = False
    kept_step: ClassVar[int | None] = None

    def retraining(self, recipe: Recipe) -> Retraining:
        return Retraining(recipe.steps, recipe)
