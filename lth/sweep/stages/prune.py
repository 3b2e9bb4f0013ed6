"""The stage `prune`: from the weights of a level to the masks of the next."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lth.data.examples import DataSet
from lth.engine import choose_device, exact_arithmetic, initial_buffers, initialise
from lth.errors import LthError
from lth.experiment import format_seeds
from lth.pruning import CRITERIA, PruningFailed, Scored
from lth.pruning import prune as cut
from lth.structured import alive_units, keep_units, unit_masks, unit_scores
from lth.sweep.handover import Job, Masks
from lth.sweep.planning import Work
from lth.sweep.stages.clock import Clock, Stage
from lth.sweep.stages.feed import feed_of
from lth.sweep.stages.gpu_memory import in_memory
from lth.sweep.stages.rewind import masks_of, trained_before
from lth.sweep.transfer import taken_masks

Tensors = dict[str, torch.Tensor]


def prune_unit(job: Job, work: Work, data: DataSet) -> Stage[Masks]:
    """The masks of a ticket unit: weights or units scored, the lowest removed, round after round.

    Where another experiment found the tickets, its masks are taken over.

    Trained weights that are no longer in the store are trained again from the mask of their level: on a CPU to the bit.
    """
    clock = Clock()
    if job.experiment.transfer is not None:
        with clock.time("storage"):
            return Stage(Masks(taken_masks(job, work)), clock.seconds)
    with clock.time("storage"):
        masks = masks_of(job, work, work.masks_from)
    with exact_arithmetic(job.threads, "float32"):
        prune_cohort = _units_cut if job.setup.groups else _weights_cut
        try:
            masks = prune_cohort(job, work, data, masks, clock)
        except PruningFailed as error:
            seeds = [work.seeds[row] for row in error.rows]
            raise LthError(
                f"level {work.unit.level}, seed{'s' * (len(seeds) > 1)} {format_seeds(seeds)}: {error}"
            ) from None
    return Stage(Masks({name: mask.cpu() for name, mask in masks.items()}), clock.seconds)


def _weights_cut(job: Job, work: Work, data: DataSet, masks: Mapping[str, torch.Tensor], clock: Clock) -> Tensors:
    setup, pruning, seeds = job.setup, job.experiment.pruning, work.seeds
    network, criterion = setup.network, CRITERIA[pruning.criterion]
    initial = initialise(network, seeds)
    movement: torch.Tensor | None = None
    if pruning.when == "after_training":
        trained, evidence = trained_before(job, work, data, clock)
        weights, buffers, movement = trained.weights, trained.buffers, evidence.get("movement")
    else:
        weights, buffers = initial, initial_buffers(network, seeds)
    device = choose_device(job.device, "float32")

    def scored_and_cut(rows: list[int]) -> Tensors:
        some = tuple(seeds[row] for row in rows)
        cohort = Scored(
            network,
            some,
            weights[rows].to(device),
            {name: buffer[rows].to(device) for name, buffer in buffers.items()},
            initial[rows].to(device),
            None if movement is None else movement[rows].to(device),
            feed_of(job, data, some, device) if criterion.needs_data else None,
            setup.input_shape,
        )
        try:
            return cut(
                cohort,
                criterion,
                {name: mask[rows].to(device) for name, mask in masks.items()},
                setup.counts[work.unit.level],
                rounds=setup.rounds,
                sample=setup.sample,
                level=work.unit.level,
                allow_empty=pruning.allow_empty_layers,
            )
        except PruningFailed as error:
            raise PruningFailed(str(error), [rows[row] for row in error.rows]) from None

    with clock.time("pruning"):
        parts = list(in_memory(list(range(len(seeds))), seeds, scored_and_cut))
        return {name: torch.cat([part[name] for part in parts]) for name in masks}


def _units_cut(job: Job, work: Work, data: DataSet, masks: Mapping[str, torch.Tensor], clock: Clock) -> Tensors:
    """Whole units: every prunable weight that a removed unit writes or reads goes with it."""
    setup = job.setup
    trained, _ = trained_before(job, work, data, clock)
    with clock.time("pruning"):
        alive = alive_units(setup.groups, masks)
        scores = unit_scores(
            setup.groups,
            alive,
            setup.network.layout.views(trained.weights),
            job.experiment.pruning.criterion,  # type: ignore[arg-type]
        )
        kept = keep_units(setup.groups, scores, alive, setup.counts[work.unit.level])
        shapes = {tensor.name: tensor.shape for tensor in setup.network.prunable}
        return {**masks, **unit_masks(setup.groups, kept, shapes)}
