"""The stage `rewind`: masks, and the weights that training starts from; trained again where they are gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from lth.arms import ARMS, Draw, Ticket, checked
from lth.data.examples import DataSet
from lth.engine import Network, Snapshot, Trained, exact_arithmetic, initial_buffers, initialise
from lth.errors import DamagedObject
from lth.rewinding import rewind_of
from lth.store import Unit
from lth.sweep.checkpoints import gathered
from lth.sweep.handover import Job, Masks
from lth.sweep.networks import network_of
from lth.sweep.planning import Work, keeps_weights, parent_level
from lth.sweep.sources import source_of
from lth.sweep.stages.clock import Clock, Stage
from lth.sweep.stages.train import train_unit


def rewind_unit(job: Job, work: Work, data: DataSet, pruned: Masks | None = None) -> Stage[Ticket]:
    """The ticket of the unit's arm: masks, and the weights that training starts from.

    A rewind point that is no longer in the store is trained again: on a CPU to the bit.
    """
    clock = Clock()
    setup, network, seeds, unit = job.setup, job.setup.network, work.seeds, work.unit
    with exact_arithmetic(job.threads, "float32"):
        if pruned is not None:
            masks = dict(pruned.tensors)
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
            late = _rewind_point(job, work, data, clock)
            weights, buffers = late.weights, late.buffers
        else:
            trained, _ = trained_before(job, work, data, clock)
            weights, buffers = trained.weights, trained.buffers
        with clock.time("pruning"):
            draw = Draw(network, seeds, unit.level, unit.draw, setup.groups)
            ticket = checked(unit.arm, ARMS[unit.arm].make(Ticket(masks, weights, buffers), draw), draw)
    return Stage(ticket, clock.seconds)


def masks_of(job: Job, work: Work, masks_from: Mapping[int, str]) -> dict[str, torch.Tensor]:
    """Masks [seeds, *shape] of the units that hold them by seed; of the dense network where none is named."""
    tensors = job.setup.network.prunable
    if not masks_from:
        return {tensor.name: torch.ones(len(work.seeds), *tensor.shape, dtype=torch.bool) for tensor in tensors}
    read = job.store.read_masks(job.experiment.id, dict(masks_from))
    return {tensor.name: torch.from_numpy(read[tensor.name]) for tensor in tensors}


def trained_before(job: Job, work: Work, data: DataSet, clock: Clock) -> tuple[Snapshot, dict[str, torch.Tensor]]:
    """Weights and buffers at the end of the parent level, and by name the evidence that its training has gathered, rows
    [seeds, width] each.

    Raises DamagedObject where they are gone and could only be had by repeating every level before.
    """
    network, names = job.setup.network, job.setup.gathered
    parent = parent_level(job.experiment, work.unit.level) or 0
    try:
        with clock.time("storage"):
            trained = _snapshot(network, gathered(job.store, job.experiment.id, work.trained_from, "trained/"))
            evidence = {
                name: network.layout.rows(gathered(job.store, job.experiment.id, work.trained_from, f"{name}/"))
                for name in names
            }
        return trained, evidence
    except DamagedObject:
        if parent and (keeps_weights(job.experiment) or job.experiment.training.mask_changers):
            raise
    again = _train_again(job, work, parent, data, clock)
    return again.end, {name: again.kept[name][name] for name in names}


def _snapshot(network: Network, tensors: Mapping[str, torch.Tensor]) -> Snapshot:
    """Weights as rows and buffers, from a checkpoint's tensors by name."""
    return Snapshot(
        network.layout.rows({slot.name: tensors[slot.name] for slot in network.layout.slots}),
        {name: tensors[f"buffers/{name}"] for name in network.buffers},
    )


def _rewind_point(job: Job, work: Work, data: DataSet, clock: Clock) -> Snapshot:
    """Weights and buffers of step k of the dense training."""
    try:
        with clock.time("storage"):
            late = gathered(job.store, job.experiment.id, work.rewind_from, "rewind/")
    except DamagedObject:
        again = _train_again(job, work, 0, data, clock).rewind_point
        assert again is not None
        return again
    return _snapshot(job.setup.network, late)


def _train_again(job: Job, work: Work, level: int, data: DataSet, clock: Clock) -> Trained:
    """The training of the ticket of `level` for the seeds of `work`, once more; nothing of it is committed."""
    masks_from = work.masks_from if level == parent_level(job.experiment, work.unit.level) else {}
    past = Work(
        Unit("ticket", 0, level, work.seeds), work.seeds, (), masks_from, rewind_from=work.rewind_from if level else {}
    )
    ticket = rewind_unit(job, past, data)
    trained = train_unit(replace(job, save_every=None), past, ticket.result, data)
    for seconds in (ticket.seconds, trained.seconds):
        for purpose, spent in seconds.items():
            clock.add(purpose, spent)
    return trained.result
