"""The stage `rewind`: masks, and the weights that training starts from; trained again where they are gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from lth.arms import ARMS, Draw, Ticket, checked
from lth.data import ImageData
from lth.engine import Feed, exact_arithmetic, initial_buffers, initialise, make_feed
from lth.errors import DamagedObject
from lth.rewinding import rewind_of
from lth.store import Unit
from lth.sweep.checkpoints import gathered
from lth.sweep.handover import Arrays, Job
from lth.sweep.networks import network_of
from lth.sweep.planning import Work, keeps_weights, parent_level
from lth.sweep.sources import source_of
from lth.sweep.stages.clock import Clock, Stage
from lth.sweep.stages.train import train_unit

Buffers = dict[str, torch.Tensor]


def rewind_unit(job: Job, work: Work, data: ImageData, pruned: Arrays | None = None) -> Stage:
    """The ticket of the unit's arm: masks, and the weights that training starts from.

    A rewind point that is no longer in the store is trained again: on a CPU to the bit.
    """
    clock = Clock()
    setup, network, seeds, unit = job.setup, job.setup.network, work.seeds, work.unit
    with exact_arithmetic(job.threads, "float32"):
        if pruned is not None:
            masks = {name.removeprefix("masks/"): torch.from_numpy(mask.copy()) for name, mask in pruned.items()}
        else:
            with clock.time("storage"):
                masks = masks_of(job, work, work.masks_from if unit.level else {})
        fresh = unit.level == 0 or ARMS[unit.arm].fresh
        source = "initial" if fresh else rewind_of(job.experiment.rewinding.kind).source
        taken = None
        if not fresh:
            with clock.time("storage"):
                ours = network_of(job.experiment, job.facts)
                taken = source_of(job.experiment).weights(job.store, ours, work)
        if taken is not None:
            weights, buffers = taken
        elif source == "initial":
            weights, buffers = initialise(network, seeds), initial_buffers(network, seeds)
        elif source == "step":
            weights, buffers = _rewind_point(job, work, data, clock)
        else:
            weights, buffers, _ = trained_before(job, work, data, clock)
        with clock.time("pruning"):
            draw = Draw(network, seeds, unit.level, unit.draw, setup.groups)
            ticket = checked(unit.arm, ARMS[unit.arm].make(Ticket(masks, weights, buffers), draw), draw)
    arrays = {"weights": ticket.weights.numpy()}
    arrays.update({f"buffers/{name}": buffer.numpy() for name, buffer in ticket.buffers.items()})
    arrays.update({f"masks/{name}": mask.numpy() for name, mask in ticket.masks.items()})
    return Stage(arrays, clock.seconds)


def masks_of(job: Job, work: Work, masks_from: Mapping[int, str]) -> dict[str, torch.Tensor]:
    """Masks [seeds, *shape] of the units that hold them by seed; of the dense network where none is named."""
    tensors = job.setup.network.prunable
    if not masks_from:
        return {tensor.name: torch.ones(len(work.seeds), *tensor.shape, dtype=torch.bool) for tensor in tensors}
    read = job.store.read_masks(job.experiment.id, dict(masks_from))
    return {tensor.name: torch.from_numpy(read[tensor.name]) for tensor in tensors}


def trained_before(
    job: Job, work: Work, data: ImageData, clock: Clock
) -> tuple[torch.Tensor, Buffers, torch.Tensor | None]:
    """Rows of weights, buffers and rows of movement (where the training gathered it) at the end of the parent level.

    Raises DamagedObject where they are gone and could only be had by repeating every level before.
    """
    network, moving = job.setup.network, job.setup.recipe.movement
    parent = parent_level(job.experiment, work.unit.level) or 0
    try:
        with clock.time("storage"):
            kept = gathered(job.store, job.experiment.id, work.trained_from, "trained/")
            movement = gathered(job.store, job.experiment.id, work.trained_from, "movement/") if moving else None
        return (
            network.layout.rows({slot.name: kept[slot.name] for slot in network.layout.slots}),
            {name: kept[f"buffers/{name}"] for name in network.buffers},
            None if movement is None else network.layout.rows(movement),
        )
    except DamagedObject:
        if parent and keeps_weights(job.experiment):
            raise
    again = {name: torch.from_numpy(array) for name, array in _train_again(job, work, parent, data, clock).items()}
    return again["weights"], {name: again[f"buffers/{name}"] for name in network.buffers}, again.get("movement")


def feed_of(job: Job, data: ImageData, seeds: tuple[int, ...], device: torch.device) -> Feed:
    """The data of a cohort, split and standardised as the experiment says."""
    return make_feed(data, seeds, job.experiment.dataset.validation, job.experiment.dataset.standardise, device)


def _rewind_point(job: Job, work: Work, data: ImageData, clock: Clock) -> tuple[torch.Tensor, Buffers]:
    """Rows of weights and the buffers of step k of the dense training."""
    network = job.setup.network
    try:
        with clock.time("storage"):
            late = gathered(job.store, job.experiment.id, work.rewind_from, "rewind/")
    except DamagedObject:
        again = _train_again(job, work, 0, data, clock)
        return (
            torch.from_numpy(again["rewind/weights"]),
            {name: torch.from_numpy(again[f"rewind/buffers/{name}"]) for name in network.buffers},
        )
    return (
        network.layout.rows({slot.name: late[slot.name] for slot in network.layout.slots}),
        {name: late[f"buffers/{name}"] for name in network.buffers},
    )


def _train_again(job: Job, work: Work, level: int, data: ImageData, clock: Clock) -> Arrays:
    """The training of the ticket of `level` for the seeds of `work`, once more; nothing of it is committed."""
    masks_from = work.masks_from if level == parent_level(job.experiment, work.unit.level) else {}
    past = Work(
        Unit("ticket", 0, level, work.seeds), work.seeds, (), masks_from, rewind_from=work.rewind_from if level else {}
    )
    ticket = rewind_unit(job, past, data)
    trained = train_unit(replace(job, save_every=None), past, ticket.arrays, data)
    for stage in (ticket, trained):
        for purpose, spent in stage.seconds.items():
            clock.add(purpose, spent)
    return trained.arrays
