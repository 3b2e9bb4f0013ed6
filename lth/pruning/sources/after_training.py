"""Masks cut from trained weights: level after level, or every level straight from the dense network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lth.pruning.sources.registry import Masks, Pruner, register_mask_source


@register_mask_source("after_training", "The trained weights of the level before, or of the dense network.")
@dataclass(frozen=True)
class AfterTraining:
    """The criterion scores the network at the end of the training before: of the last level (`iterative`), or of the
    dense network (one-shot)."""

    iterative: bool
    scores_trained: ClassVar[bool] = True

    def parent_level(self, level: int) -> int | None:
        if level == 0:
            return None
        return level - 1 if self.iterative else 0

    def trainings_behind(self, level: int) -> int:
        return level + 1 if self.iterative else min(level, 1) + 1

    def read_later(self, level: int) -> bool:
        return self.iterative or level == 0

    def masks(self, pruner: Pruner) -> Masks:
        return pruner.cut(pruner.trained())
