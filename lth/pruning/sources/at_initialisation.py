"""Masks cut from the initial weights: nothing needs to be trained before a mask is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lth.pruning.sources.registry import Masks, Pruner, register_mask_source


@register_mask_source("at_initialisation", "The initial weights: nothing is trained before a mask is known.")
@dataclass(frozen=True)
class AtInitialisation:
    """The criterion scores the initial weights under the mask of the last level (`iterative`), or of the dense network
    (one-shot)."""

    iterative: bool
    scores_trained: ClassVar[bool] = False

    def parent_level(self, level: int) -> int | None:
        return level - 1 if self.iterative and level else None

    def trainings_behind(self, level: int) -> int:
        return 1

    def read_later(self, level: int) -> bool:
        return False

    def masks(self, pruner: Pruner) -> Masks:
        return pruner.cut(pruner.initial())
