"""The tickets of another experiment in the store, level by level and seed by seed (Morcos et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import torch

from lth.engine import initial_buffers, initialise
from lth.errors import DamagedObject, InvalidExperiment, LthError
from lth.experiment import Experiment, format_seeds
from lth.pruning.sources import Masks
from lth.rewinding import rewind_of
from lth.store import Store, Unit
from lth.sweep.checkpoints import gathered
from lth.sweep.networks import DataFacts, ExperimentNetwork, network_of
from lth.sweep.sources.new_output import check_fit, with_dense_output, with_new_output
from lth.sweep.sources.source import Start, UnitPruner
from lth.sweep.stored import facts_of, stored_experiment
from lth.sweep.work import SourceTickets, Work, done_of


@dataclass(frozen=True)
class AnotherExperiment:
    """The masks that the experiment of that id found, and the weights that it rewound them to. The output layer is
    new: dense, with weights from a stream of its own."""

    identifier: str
    criterion: ClassVar[str] = "transfer"
    scores_trained: ClassVar[bool] = False

    @property
    def elsewhere(self) -> str | None:
        return self.identifier

    def parent_level(self, level: int) -> int | None:
        return None

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
        theirs, network = described(store, self.identifier), _network_of(store, self.identifier)
        shapes = network.network.shapes
        prunable = {tensor.name for tensor in network.network.prunable}
        check_fit(self.identifier, shapes, prunable, network.output_layer, network_of(experiment, facts))
        levels = experiment.pruning.levels
        wanted = theirs.model_copy(update={"pruning": theirs.pruning.model_copy(update={"levels": levels})})
        done = done_of(wanted, seeds, store.committed(self.identifier))
        missing = sorted(
            {(level, seed) for level in range(levels + 1) for seed in seeds}
            - {(level, seed) for arm, _, level, seed in done if arm == "ticket"}
        )
        if missing:
            level, _ = missing[0]
            lacking = format_seeds([seed for at, seed in missing if at == level])
            raise InvalidExperiment(
                f"{self.identifier} has no tickets of level {level} for seeds {lacking}; run it for them "
                "first, or ask for fewer seeds or levels"
            )
        return SourceTickets(done, rewind_of(theirs.rewinding.kind).source == "step")

    def without_mask(self, unit: Unit, found: SourceTickets | None) -> set[int]:
        return {seed for seed in unit.seeds if not _found(found).tickets["ticket", 0, unit.level, seed].has_mask}

    def taken_over(self, work: Work, found: SourceTickets | None) -> Work:
        tickets, late, ticket = _found(found).tickets, _found(found).late, work.unit.arm == "ticket"

        def units(level: int) -> dict[int, str]:
            return {seed: tickets["ticket", 0, level, seed].unit for seed in work.seeds}

        return replace(
            work,
            source_tickets=units(work.unit.level) if ticket else {},
            source_rewind_points=units(0) if late else {},
        )

    def masks(self, pruner: UnitPruner) -> Masks:
        try:
            read = pruner.store.read_masks(self.identifier, dict(pruner.work.source_tickets))
        except DamagedObject as error:
            raise self._gone(error) from None
        masks = {name: torch.from_numpy(mask) for name, mask in read.items()}
        return with_dense_output(masks, pruner.ours, pruner.work.seeds)

    def weights(self, store: Store, ours: ExperimentNetwork, work: Work) -> Start | None:
        """Raises LthError if the other experiment's rewind point is no longer in the store."""
        theirs = _network_once(store.url, self.identifier).network
        if work.source_rewind_points:
            try:
                late = gathered(store, self.identifier, work.source_rewind_points, "rewind/")
            except DamagedObject as error:
                raise self._gone(error) from None
            return with_new_output(late, {name: late[f"buffers/{name}"] for name in theirs.buffers}, ours, work.seeds)
        initial = theirs.layout.views(initialise(theirs, work.seeds))
        return with_new_output(initial, initial_buffers(theirs, work.seeds), ours, work.seeds)

    def _gone(self, error: DamagedObject) -> LthError:
        return LthError(
            f"the tickets of {self.identifier} cannot be read: {error}; `lth verify {self.identifier} "
            "--set-aside` and its next run do damaged units anew"
        )


def described(store: Store, identifier: str, trust: bool = False) -> Experiment:
    """The experiment of that id as the store describes it, if it has tickets that can be taken over; see
    `stored_experiment` for `trust`."""
    content = store.describe(identifier)
    if not content:
        raise InvalidExperiment(
            f"there is no experiment {identifier!r} in {store.url} to take tickets from; `lth status` "
            "lists those that there are"
        )
    if "data" not in content:
        raise InvalidExperiment(
            f"{identifier} was first run by a version that did not note the shape of its data; remove "
            f"experiments/{identifier}/experiment.yaml and run it again: it trains nothing anew"
        )
    found = stored_experiment(identifier, content, trust)
    if found.transfer is not None:
        raise InvalidExperiment(
            f"{identifier} found no tickets of its own, it took over those of "
            f"{found.transfer.experiment or 'a file'}; take them from there"
        )
    if found.pruning.remove != "weights" or rewind_of(found.rewinding.kind).source == "trained":
        raise InvalidExperiment(
            f"{identifier} has no tickets to take over: those are masks of weights, with the weights of "
            f"the initialisation or of an early step; it removes {found.pruning.remove} and "
            f"rewinds by {found.rewinding.kind!r}"
        )
    return found


def _network_of(store: Store, identifier: str) -> ExperimentNetwork:
    found, facts = described(store, identifier), facts_of(store.describe(identifier))
    assert facts is not None, "described has seen that the store notes them"
    return network_of(found, facts)


@lru_cache(maxsize=4)
def _network_once(store_url: str, identifier: str) -> ExperimentNetwork:
    """For stages, which ask unit after unit."""
    return _network_of(Store(store_url), identifier)


def _found(found: SourceTickets | None) -> SourceTickets:
    if found is None:
        raise ValueError("tickets of another experiment are planned with what `find` says of them")
    return found
