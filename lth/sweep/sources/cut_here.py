"""Masks that this experiment cuts itself, from the weights that its mask source says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lth.experiment import Experiment
from lth.pruning.sources import Masks, MaskSource
from lth.store import Store, Unit
from lth.sweep.networks import DataFacts, ExperimentNetwork
from lth.sweep.sources.source import Start, UnitPruner
from lth.sweep.work import SourceTickets, Work


@dataclass(frozen=True)
class CutHere:
    """`source` says which weights `criterion` scores; nothing is taken over."""

    source: MaskSource
    criterion: str
    elsewhere: ClassVar[str | None] = None

    @property
    def scores_trained(self) -> bool:
        return self.source.scores_trained

    def parent_level(self, level: int) -> int | None:
        return self.source.parent_level(level)

    def trainings_behind(self, level: int) -> int:
        return self.source.trainings_behind(level)

    def read_later(self, level: int) -> bool:
        return self.source.read_later(level)

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

    def masks(self, pruner: UnitPruner) -> Masks:
        return self.source.masks(pruner)

    def weights(self, store: Store, ours: ExperimentNetwork, work: Work) -> Start | None:
        return None
