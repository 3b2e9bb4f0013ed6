"""Masks cut from trained weights: level after level, or every level straight from the dense network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lth.experiment import Experiment
from lth.store import Store, Unit
from lth.sweep.networks import DataFacts, ExperimentNetwork
from lth.sweep.sources.source import Masks, Pruner, Start
from lth.sweep.work import SourceTickets, Work


@dataclass(frozen=True)
class AfterTraining:
    """The criterion scores the network at the end of the training before: of the last level (`iterative`), or of the
    dense network (one-shot)."""

    criterion: str
    iterative: bool
    elsewhere: ClassVar[str | None] = None
    scores_trained: ClassVar[bool] = True

    def parent_level(self, level: int) -> int | None:
        if level == 0:
            return None
        return level - 1 if self.iterative else 0

    def trainings_behind(self, level: int) -> int:
        return level + 1 if self.iterative else min(level, 1) + 1

    def read_later(self, level: int) -> bool:
        return self.iterative or level == 0

    def find(
        self,
        store: Store,
        experiment: Experiment,
        seeds: Sequence[int],
        facts: DataFacts,
        exported: bytes | None = None,
    ) -> SourceTickets | None:
        return None

    def without_mask(self, unit: Unit, found: SourceTickets | None) -> set[int]:
        return set()

    def taken_over(self, work: Work, found: SourceTickets | None) -> Work:
        return work

    def masks(self, pruner: Pruner) -> Masks:
        return pruner.cut(pruner.trained())

    def weights(self, store: Store, ours: ExperimentNetwork, work: Work) -> Start | None:
        return None
