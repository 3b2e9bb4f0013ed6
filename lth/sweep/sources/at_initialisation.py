"""Masks cut from the initial weights: nothing needs to be trained before a mask is known."""

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
class AtInitialisation:
    """The criterion scores the initial weights under the mask of the last level (`iterative`), or of the dense network
    (one-shot)."""

    criterion: str
    iterative: bool
    elsewhere: ClassVar[str | None] = None
    scores_trained: ClassVar[bool] = False

    def parent_level(self, level: int) -> int | None:
        return level - 1 if self.iterative and level else None

    def trainings_behind(self, level: int) -> int:
        return 1

    def read_later(self, level: int) -> bool:
        return False

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
        return pruner.cut(pruner.initial())

    def weights(self, store: Store, ours: ExperimentNetwork, work: Work) -> Start | None:
        return None
