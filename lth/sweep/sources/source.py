"""What a sweep asks the source of its masks, whatever that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from lth.experiment import Experiment
from lth.store import Store, Unit
from lth.sweep.networks import DataFacts, ExperimentNetwork
from lth.sweep.work import SourceTickets, Work

Masks = dict[str, torch.Tensor]
"""bool [seeds, *shape] of every prunable tensor, by name."""
Start = tuple[torch.Tensor, dict[str, torch.Tensor]]
"""Weights as rows [seeds, width], and buffers [seeds, *shape] by name."""


@dataclass(frozen=True)
class Scorable:
    """A cohort's weights that masks can be cut from: rows [seeds, width], buffers [seeds, *shape] by name, and what
    watchers of their training gathered, rows by the watcher's name."""

    weights: torch.Tensor
    buffers: Mapping[str, torch.Tensor]
    watched: Mapping[str, torch.Tensor] = field(default_factory=dict)


class Pruner(Protocol):
    """What the stage `prune` lends a source, for one unit of work."""

    @property
    def store(self) -> Store: ...

    @property
    def ours(self) -> ExperimentNetwork: ...

    @property
    def work(self) -> Work: ...

    def trained(self) -> Scorable:
        """The trained weights of the parent level, trained again where they are gone."""

    def initial(self) -> Scorable:
        """The initial weights."""

    def cut(self, weights: Scorable) -> Masks:
        """The parent level's masks (of the dense network, where there is none) without what the experiment's criterion
        scores lowest, down to the counts of the unit's level."""


class MaskSource(Protocol):
    """Where the masks of an experiment's tickets come from, and all that follows from it.

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

    def masks(self, pruner: Pruner) -> Masks:
        """The masks of a unit of tickets: what the stage `prune` is about."""

    def weights(self, store: Store, ours: ExperimentNetwork, work: Work) -> Start | None:
        """The weights that tickets were found with; None: those that the experiment's rewind says."""
