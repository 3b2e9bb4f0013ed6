"""Tickets of another experiment, trained on other data (Morcos et al. 2019): their masks, weights, and what must hold.

The output layer is new: dense, with the initial weights of the network that is trained now. All other prunable layers
have the mask of the source's ticket of the same level and seed, and the weights that the source rewound it to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lth.engine import initial_buffers, initialise
from lth.errors import InvalidExperiment
from lth.experiment import Experiment, RewindToInit, RewindToStep, format_seeds
from lth.store import Store
from lth.sweep.handover import Job, gathered
from lth.sweep.planning import Found, Work, done_of
from lth.sweep.setup import DataFacts, Setup, setup


@dataclass(frozen=True)
class Source:
    """The experiment that found the tickets, made concrete for its own data."""

    experiment: Experiment
    setup: Setup


def found_tickets(store: Store, experiment: Experiment, seeds: Sequence[int], facts: DataFacts) -> Found | None:
    """Where the source's tickets lie; None if the experiment takes over none.

    Raises InvalidExperiment if there is no such source, if it has no tickets that can be taken over by this network,
    or if some of the levels or seeds are missing.
    """
    if experiment.transfer is None:
        return None
    source, name = source_of(store, experiment), experiment.transfer.experiment
    _fitting(source, setup(experiment, facts), name)
    done = done_of(source.experiment, seeds, store.committed(name))
    missing = sorted({(level, seed) for level in range(experiment.pruning.levels + 1) for seed in seeds}
                     - {(level, seed) for arm, _, level, seed in done if arm == "ticket"})
    if missing:
        level, _ = missing[0]
        lacking = format_seeds([seed for at, seed in missing if at == level])
        raise InvalidExperiment(f"{name} has no tickets of level {level} for seeds {lacking}; run it for them first, "
                                "or ask for fewer seeds or levels")
    return Found(done, isinstance(source.experiment.rewinding, RewindToStep))


def described(store: Store, name: str) -> Experiment:
    """The experiment of that id as the store describes it, if it has tickets that can be taken over."""
    found = Experiment.model_validate(_description(store, name)["experiment"])
    if found.transfer is not None:
        raise InvalidExperiment(f"{name} found no tickets of its own, it took over those of "
                                f"{found.transfer.experiment}; take them from there")
    if found.pruning.remove != "weights" or not isinstance(found.rewinding, RewindToInit | RewindToStep):
        raise InvalidExperiment(f"{name} has no tickets to take over: those are masks of weights, with the weights of "
                                f"the initialisation or of an early step; it removes {found.pruning.remove} and "
                                f"rewinds by {found.rewinding.kind!r}")
    return found


def _description(store: Store, name: str) -> dict[str, Any]:
    content = store.describe(name)
    if not content:
        raise InvalidExperiment(f"there is no experiment {name!r} in {store.url} to take tickets from; `lth status` "
                                "lists those that there are")
    if "data" not in content:
        raise InvalidExperiment(f"{name} was first run by a version that did not note the shape of its data; remove "
                                f"experiments/{name}/experiment.yaml and run it again: it trains nothing anew")
    return content


def source_of(store: Store, experiment: Experiment) -> Source:
    """The experiment whose tickets are taken over, with the network that found them."""
    assert experiment.transfer is not None
    found = described(store, experiment.transfer.experiment)
    data = _description(store, experiment.transfer.experiment)["data"]
    return Source(found, setup(found, DataFacts(tuple(data["input_shape"]), data["classes"], data["examples"])))


def _fitting(source: Source, ours: Setup, name: str) -> None:
    """Refuse a network that differs in more than its output layer."""
    def body(concrete: Setup) -> dict[str, tuple[int, ...]]:
        head = _head(concrete)
        return {slot.name: slot.shape for slot in concrete.network.layout.slots if slot.name not in head}

    theirs, here = body(source.setup), body(ours)
    prunable = [{tensor.name for tensor in concrete.network.prunable if not tensor.output}
                for concrete in (source.setup, ours)]
    if theirs != here or prunable[0] != prunable[1]:
        differing = sorted(key for key in {*theirs, *here} if theirs.get(key) != here.get(key)) or \
            sorted(prunable[0] ^ prunable[1])
        at = differing[0]
        raise InvalidExperiment(
            f"the tickets of {name} do not fit this network: {at} is {_shape(theirs.get(at))} there and "
            f"{_shape(here.get(at))} here; use its model, and images of its size")


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else "x".join(map(str, shape))


def _head(concrete: Setup) -> set[str]:
    """Parameters of the output layer."""
    outputs = {tensor.name.rpartition(".")[0] for tensor in (*concrete.network.prunable, *concrete.elsewhere)
               if tensor.output}
    return {slot.name for slot in concrete.network.layout.slots if slot.name.rpartition(".")[0] in outputs}


def taken_masks(job: Job, work: Work) -> dict[str, torch.Tensor]:
    """Masks [seeds, *shape] of the source's tickets; the output layer's is dense."""
    assert job.experiment.transfer is not None
    read = job.store.read_masks(job.experiment.transfer.experiment, dict(work.found_by))
    return {tensor.name: torch.ones(len(work.seeds), *tensor.shape, dtype=torch.bool) if tensor.output
            else torch.from_numpy(read[tensor.name]) for tensor in job.setup.network.prunable}


def taken_weights(job: Job, work: Work) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Rows of weights and the buffers that the source rewound its tickets to; the output layer's are this network's.

    Raises DamagedObject if the source's rewind point is no longer in the store.
    """
    assert job.experiment.transfer is not None
    source = source_of(job.store, job.experiment)
    theirs, ours, seeds = source.setup.network, job.setup.network, work.seeds
    if work.begun_by:
        late = gathered(job.store, job.experiment.transfer.experiment, work.begun_by, "rewind/")
        tensors: Mapping[str, torch.Tensor] = {slot.name: late[slot.name] for slot in theirs.layout.slots}
        buffers = {name: late[f"buffers/{name}"] for name in theirs.buffers}
    else:
        tensors = theirs.layout.views(initialise(theirs, seeds))
        buffers = initial_buffers(theirs, seeds)
    rows = initialise(ours, seeds)
    head = _head(job.setup)
    for name, view in ours.layout.views(rows).items():
        if name not in head:
            view.copy_(tensors[name])
    return rows, buffers
