"""One exported ticket, which is level 1 of every seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from lth.engine import initial_buffers
from lth.errors import InvalidExperiment
from lth.experiment import Experiment
from lth.pruning.sources import Masks
from lth.store import Store, Unit
from lth.sweep.networks import DataFacts, ExperimentNetwork, network_of
from lth.sweep.sources.new_output import check_fit, with_dense_output, with_new_output
from lth.sweep.sources.source import Start, UnitPruner
from lth.sweep.work import SourceTickets, Work

if TYPE_CHECKING:
    from lth.tickets.portable import PortableTicket


@dataclass(frozen=True)
class ExportedFile:
    """The mask and the rewound weights of a ticket that `lth export` wrote, by the SHA-256 of its file. Seeds differ in
    their output layer, which is new, in their split and in their data order."""

    sha256: str
    criterion: ClassVar[str] = "transfer"
    elsewhere: ClassVar[str | None] = "the experiment that the ticket is from"
    scores_trained: ClassVar[bool] = False

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
        ticket = _read(exported, self.sha256) if exported else _ticket(store, self.sha256)
        ours = network_of(experiment, facts)
        # Of its own network nothing is built: what a ticket's state has beside our buffers are its parameters.
        shapes = {name: tuple(tensor.shape) for name, tensor in ticket.initial.items()}
        parameters = {name: shape for name, shape in shapes.items() if name not in ours.network.buffers}
        check_fit(_name(self.sha256), parameters, set(ticket.masks), set(), ours)
        return SourceTickets({}, late=False)

    def without_mask(self, unit: Unit, found: SourceTickets | None) -> set[int]:
        return set()

    def taken_over(self, work: Work, found: SourceTickets | None) -> Work:
        return work

    def masks(self, pruner: UnitPruner) -> Masks:
        seeds = pruner.work.seeds
        masks = _ticket_once(pruner.store.url, self.sha256).masks
        every = {name: mask.expand(len(seeds), *mask.shape).clone() for name, mask in masks.items()}
        return with_dense_output(every, pruner.ours, seeds)

    def weights(self, store: Store, ours: ExperimentNetwork, work: Work) -> Start | None:
        initial = _ticket_once(store.url, self.sha256).initial
        every = {name: tensor.expand(len(work.seeds), *tensor.shape).clone() for name, tensor in initial.items()}
        buffers = {
            **initial_buffers(ours.network, work.seeds),
            **{name: every[name] for name in ours.network.buffers if name in every},
        }
        return with_new_output(every, buffers, ours, work.seeds)


def _name(sha256: str) -> str:
    return f"ticket {sha256[:12]}…"


def _read(data: bytes, sha256: str) -> PortableTicket:
    from lth.tickets.portable import read_ticket

    return read_ticket(data, _name(sha256))


def _ticket(store: Store, sha256: str) -> PortableTicket:
    data = store.read_ticket(sha256)
    if data is None:
        raise InvalidExperiment(
            f"there is no ticket {sha256[:12]}… in {store.url}; `lth run --ticket FILE` puts it there"
        )
    return _read(data, sha256)


@lru_cache(maxsize=4)
def _ticket_once(store_url: str, sha256: str) -> PortableTicket:
    """For stages, which ask unit after unit."""
    return _ticket(Store(store_url), sha256)
