"""Tickets found elsewhere, trained on other data (Morcos et al. 2019): their masks, weights, and what must hold.

They are those of another experiment in the store, level by level and seed by seed, or one exported ticket, which then
is level 1 of every seed. The output layer is new: dense, with weights from a stream of its own, since the seed's own
initialisation is what a source with as many classes began with. All other prunable layers have the found mask, and all
other parameters the weights that the ticket was rewound to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from lth.engine import Network, initial_buffers, initialise
from lth.errors import DamagedObject, InvalidExperiment, LthError
from lth.experiment import Experiment, RewindToInit, RewindToStep, Transfer, format_seeds
from lth.experiment.load import build_experiment
from lth.store import Store
from lth.sweep.handover import Job, gathered
from lth.sweep.planning import Found, Work, done_of
from lth.sweep.setup import DataFacts, Setup, resolve
from lth.tickets import PortableTicket, read_file, read_ticket

Tensors = Mapping[str, torch.Tensor]


def found_tickets(
    store: Store, experiment: Experiment, seeds: Sequence[int], facts: DataFacts, exported: bytes | None = None
) -> Found | None:
    """Where the tickets lie that the experiment takes over; None if it takes over none. `exported` is a ticket that is
    not in the store yet.

    Raises InvalidExperiment if there is no such source, if this network has no place for its tickets, or if some of
    the levels or seeds are missing.
    """
    if experiment.transfer is None:
        return None
    source = _of_file(experiment.transfer, exported) if exported else _source_of(store, experiment.transfer)
    _check_fit(source, resolve(experiment, facts))
    return source.found(store, seeds, experiment.pruning.levels)


def taken_masks(job: Job, work: Work) -> dict[str, torch.Tensor]:
    """Masks [seeds, *shape] of the tickets that are taken over; the output layer's is dense."""
    masks = _of_job(job).masks(job.store, work)
    return {
        tensor.name: torch.ones(len(work.seeds), *tensor.shape, dtype=torch.bool)
        if tensor.output
        else masks[tensor.name]
        for tensor in job.setup.network.prunable
    }


def taken_weights(job: Job, work: Work) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Rows of weights and the buffers that those tickets are rewound to; the output layer's are drawn anew.

    Raises LthError if the source's rewind point is no longer in the store.
    """
    network = job.setup.network
    weights, buffers = _of_job(job).weights(job.store, work, network)
    rows, head = initialise(network, work.seeds, "transfer"), _head(job.setup)
    for name, view in network.layout.views(rows).items():
        if name not in head:
            view.copy_(weights[name])
    return rows, {name: buffers[name] for name in network.buffers}


def taking_over_experiment(store: Store, name: str) -> dict[str, Any]:
    """What an experiment says instead of its own, to train the tickets of the experiment of that id in the store."""
    found = _described(store, name)
    theirs = found.model_dump(mode="json")
    return {
        "transfer": {"experiment": name},
        "model": theirs["model"],
        "imports": theirs["imports"],
        "pruning": {"levels": found.pruning.levels},
        "from": found.name,
    }


def taking_over_file(path: Path) -> tuple[dict[str, Any], bytes]:
    """What an experiment says instead of its own, to train an exported ticket; and the ticket, which `Store.put_ticket`
    is to put where the experiment finds it."""
    data, file = read_file(path)
    ticket = read_ticket(data, file)
    card = ticket.card
    if card.removes != "weights" or card.rewinding not in ("init", "step"):
        raise InvalidExperiment(
            f"{file} cannot be taken over: those are masks of weights, with the weights of the "
            f"initialisation or of an early step; it removes {card.removes} and was rewound by "
            f"{card.rewinding!r}"
        )
    model = {
        "name": card.model,
        "arguments": card.model_arguments,
        "initialisation": card.initialisation,
        "prunable": sorted(ticket.masks),
        "output_layer": card.output_layer,
    }
    return {
        "transfer": {"ticket": hashlib.sha256(data).hexdigest()},
        "model": model,
        "imports": list(card.imports),
        "pruning": {"levels": 1},
        "from": card.experiment_id.rpartition("-")[0],
    }, data


@dataclass(frozen=True)
class _OfExperiment:
    """The tickets of another experiment, and its network."""

    name: str
    experiment: Experiment
    network: Network
    head: frozenset[str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {slot.name: slot.shape for slot in self.network.layout.slots}

    @property
    def prunable(self) -> set[str]:
        return {tensor.name for tensor in self.network.prunable}

    def found(self, store: Store, seeds: Sequence[int], levels: int) -> Found:
        wanted = self.experiment.model_copy(
            update={"pruning": self.experiment.pruning.model_copy(update={"levels": levels})}
        )
        done = done_of(wanted, seeds, store.committed(self.name))
        missing = sorted(
            {(level, seed) for level in range(levels + 1) for seed in seeds}
            - {(level, seed) for arm, _, level, seed in done if arm == "ticket"}
        )
        if missing:
            level, _ = missing[0]
            lacking = format_seeds([seed for at, seed in missing if at == level])
            raise InvalidExperiment(
                f"{self.name} has no tickets of level {level} for seeds {lacking}; run it for them "
                "first, or ask for fewer seeds or levels"
            )
        return Found(done, isinstance(self.experiment.rewinding, RewindToStep))

    def masks(self, store: Store, work: Work) -> Tensors:
        try:
            read = store.read_masks(self.name, dict(work.found_by))
        except DamagedObject as error:
            raise self._gone(error) from None
        return {name: torch.from_numpy(mask) for name, mask in read.items()}

    def weights(self, store: Store, work: Work, network: Network) -> tuple[Tensors, Tensors]:
        if work.begun_by:
            try:
                late = gathered(store, self.name, work.begun_by, "rewind/")
            except DamagedObject as error:
                raise self._gone(error) from None
            return late, {name: late[f"buffers/{name}"] for name in self.network.buffers}
        return (
            self.network.layout.views(initialise(self.network, work.seeds)),
            initial_buffers(self.network, work.seeds),
        )

    def _gone(self, error: DamagedObject) -> LthError:
        return LthError(
            f"the tickets of {self.name} cannot be read: {error}; `lth verify {self.name} "
            "--set-aside` and its next run do damaged units anew"
        )


@dataclass(frozen=True)
class _OfFile:
    """One exported ticket, which all seeds share."""

    name: str
    ticket: PortableTicket
    head: frozenset[str] = frozenset()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        from lth.models import build_model

        card = self.ticket.card
        module = build_model(card.model, card.input_shape, card.classes, card.model_arguments)
        return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}

    @property
    def prunable(self) -> set[str]:
        return set(self.ticket.masks)

    def found(self, store: Store, seeds: Sequence[int], levels: int) -> Found:
        return Found({}, late=False)

    def masks(self, store: Store, work: Work) -> Tensors:
        return {name: mask.expand(len(work.seeds), *mask.shape).clone() for name, mask in self.ticket.masks.items()}

    def weights(self, store: Store, work: Work, network: Network) -> tuple[Tensors, Tensors]:
        every = {
            name: tensor.expand(len(work.seeds), *tensor.shape).clone() for name, tensor in self.ticket.initial.items()
        }
        return every, {
            **initial_buffers(network, work.seeds),
            **{name: every[name] for name in network.buffers if name in every},
        }


def _of_job(job: Job) -> _OfExperiment | _OfFile:
    assert job.experiment.transfer is not None
    return _known(job.store_url, job.experiment.transfer)


@lru_cache(maxsize=4)
def _known(store_url: str, transfer: Transfer) -> _OfExperiment | _OfFile:
    return _source_of(Store(store_url), transfer)


def _of_file(transfer: Transfer, data: bytes) -> _OfFile:
    name = f"ticket {str(transfer.ticket)[:12]}…"
    return _OfFile(name, read_ticket(data, name))


def _source_of(store: Store, transfer: Transfer) -> _OfExperiment | _OfFile:
    if transfer.ticket is not None:
        data = store.read_ticket(transfer.ticket)
        if data is None:
            raise InvalidExperiment(
                f"there is no ticket {transfer.ticket[:12]}… in {store.url}; `lth run --ticket FILE` puts it there"
            )
        return _of_file(transfer, data)
    name = str(transfer.experiment)
    found, data_facts = _described(store, name), store.describe(name)["data"]
    setup = resolve(found, DataFacts(tuple(data_facts["input_shape"]), data_facts["classes"], data_facts["examples"]))
    return _OfExperiment(name, found, setup.network, frozenset(_head(setup)))


def _described(store: Store, name: str) -> Experiment:
    """The experiment of that id as the store describes it, if it has tickets that can be taken over."""
    content = store.describe(name)
    if not content:
        raise InvalidExperiment(
            f"there is no experiment {name!r} in {store.url} to take tickets from; `lth status` "
            "lists those that there are"
        )
    if "data" not in content:
        raise InvalidExperiment(
            f"{name} was first run by a version that did not note the shape of its data; remove "
            f"experiments/{name}/experiment.yaml and run it again: it trains nothing anew"
        )
    found = build_experiment(content["experiment"])
    if found.transfer is not None:
        raise InvalidExperiment(
            f"{name} found no tickets of its own, it took over those of "
            f"{found.transfer.experiment or 'a file'}; take them from there"
        )
    if found.pruning.remove != "weights" or not isinstance(found.rewinding, RewindToInit | RewindToStep):
        raise InvalidExperiment(
            f"{name} has no tickets to take over: those are masks of weights, with the weights of "
            f"the initialisation or of an early step; it removes {found.pruning.remove} and "
            f"rewinds by {found.rewinding.kind!r}"
        )
    return found


def _check_fit(source: _OfExperiment | _OfFile, ours: Setup) -> None:
    """Refuse a network that differs in more than its output layer."""
    head = _head(ours) | source.head
    theirs, here = (
        {name: shape for name, shape in shapes.items() if name not in head}
        for shapes in (source.shapes, {slot.name: slot.shape for slot in ours.network.layout.slots})
    )
    differing = sorted(name for name in {*theirs, *here} if theirs.get(name) != here.get(name))
    if differing:
        raise InvalidExperiment(
            f"the tickets of {source.name} do not fit this network: {differing[0]} is "
            f"{_shape(theirs.get(differing[0]))} there and {_shape(here.get(differing[0]))} here; use its model, and "
            "images of its size"
        )
    pruned = sorted((source.prunable ^ {tensor.name for tensor in ours.network.prunable}) - head)
    if pruned:
        raise InvalidExperiment(
            f"the tickets of {source.name} do not fit this network: {pruned[0]} is pruned in one "
            "of them only; set model.prunable as it was there"
        )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else "x".join(map(str, shape))


def _head(setup: Setup) -> set[str]:
    """Parameters of the output layer."""
    outputs = {
        tensor.name.rpartition(".")[0] for tensor in (*setup.network.prunable, *setup.elsewhere) if tensor.output
    }
    return {slot.name for slot in setup.network.layout.slots if slot.name.rpartition(".")[0] in outputs}
