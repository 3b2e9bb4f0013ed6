"""Rewinding to the initial weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lth.engine.recipe import Recipe
from lth.rewinding.registry import Retraining, Source, register_rewind


@register_rewind("init", "The weights of initialisation (Frankle & Carbin 2019).")
@dataclass(frozen=True)
class RewindToInit:
    """Rewind to the initial weights."""

    source: ClassVar[Source] = "initial"
    trains: ClassVar[bool] = True
    kept_step: ClassVar[int | None] = None

    def retraining(self, recipe: Recipe) -> Retraining:
        return Retraining(0, recipe)
