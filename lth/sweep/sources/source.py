"""What a sweep asks of where its tickets come from, whatever that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from lth.experiment import Experiment
from lth.pruning.sources import Masks, Pruner
from lth.store import Store, Unit
from lth.sweep.networks import DataFacts, ExperimentNetwork
from lth.sweep.work import SourceTickets, Work

Start = tuple[torch.Tensor, dict[str, torch.Tensor]]
"""Weights as rows [seeds, width], and buffers [seeds, *shape] by name."""


class UnitPruner(Pruner, Protocol):
    """What the stage `prune` lends a source, for one unit of work."""

    @property
    def store(self) -> Store: ...

    @property
    def ours(self) -> ExperimentNetwork: ...

    @property
    def work(self) -> Work: ...


class TicketSource(Protocol):
    """Where the tickets of an experiment come from, and all that follows from it.

    Levels are those of tickets; controls take the mask of the ticket of their level, whatever its source.
    """

    @property
    def criterion(self) -> str:
        """What tables say that tickets were chosen by."""

    @property
    def elsewhere(self) -> str | None:
        """Who found the tickets, in words, if not this experiment."""

    @property
    def scores_trained(self) -> bool:
        """Whether masks are cut from the trained weights of the parent level, which diverged seeds do not have."""

    def parent_level(self, level: int) -> int | None:
        """The level whose ticket must be committed before the mask of that level is cut; None if none must."""

    def trainings_behind(self, level: int) -> int:
        """How many trainings, its own included, lead to a ticket of that level."""

    def read_later(self, level: int) -> bool:
        """Whether a deeper level reads the trained weights, or the rewind point, of this one."""

    def find(
        self,
        store: Store,
        experiment: Experiment,
        seeds: Sequence[int],
        facts: DataFacts,
        exported: bytes | None = None,
    ) -> SourceTickets | None:
        """Where the tickets lie that are taken over; None if masks are cut here. `exported` is a ticket that is not in
        the store yet.

        Raises InvalidExperiment if there are none, or if the experiment's network has no place for them.
        """

    def without_mask(self, unit: Unit, found: SourceTickets | None) -> set[int]:
        """Seeds of a unit of tickets for which there is none to take over."""

    def taken_over(self, work: Work, found: SourceTickets | None) -> Work:
        """The work with the names of the units elsewhere that it reads."""

    def masks(self, pruner: UnitPruner) -> Masks:
        """The masks of a unit of tickets: what the stage `prune` is about."""

    def weights(self, store: Store, ours: ExperimentNetwork, work: Work) -> Start | None:
        """The weights that tickets were found with; None: those that the experiment's rewind says."""
