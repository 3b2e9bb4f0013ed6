"""The stage `prune`: from the weights of a level to the masks of the next."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lth.data.examples import DataSet
from lth.engine import choose_device, exact_arithmetic, initial_buffers, initialise
from lth.errors import LthError
from lth.experiment import format_seeds
from lth.pruning import CRITERIA, PruningFailed, Scored
from lth.pruning import prune as cut
from lth.pruning.sources import Masks, Scorable
from lth.store import Store
from lth.structured import alive_units, keep_units, unit_masks, unit_scores
from lth.sweep.handover import Job
from lth.sweep.handover import Masks as Pruned
from lth.sweep.networks import ExperimentNetwork, network_of
from lth.sweep.planning import Work
from lth.sweep.sources import source_of
from lth.sweep.stages.clock import Clock, Stage
from lth.sweep.stages.feed import feed_of
from lth.sweep.stages.gpu_memory import in_memory
from lth.sweep.stages.rewind import masks_of, trained_before


def prune_unit(job: Job, work: Work, data: DataSet) -> Stage[Pruned]:
    """The masks of a ticket unit, from where the experiment's masks come from: weights or units scored, the lowest
    removed, round after round; or masks that were found elsewhere.

    Trained weights that are no longer in the store are trained again from the mask of their level: on a CPU to the bit.
    """
    clock = Clock()
    masks = source_of(job.experiment).masks(_Pruner(job, work, data, clock))
    return Stage(Pruned({name: mask.cpu() for name, mask in masks.items()}), clock.seconds)


@dataclass(frozen=True)
class _Pruner:
    """What a source of masks is lent for a unit: weights that can be scored, and the cut (see `UnitPruner`)."""

    job: Job
    work: Work
    data: DataSet
    clock: Clock

    @property
    def store(self) -> Store:
        return self.job.store

    @property
    def ours(self) -> ExperimentNetwork:
        return network_of(self.job.experiment, self.job.facts)

    def trained(self) -> Scorable:
        with exact_arithmetic(self.job.threads, "float32"):
            trained, gathered = trained_before(self.job, self.work, self.data, self.clock)
        return Scorable(trained.weights, trained.buffers, gathered)

    def initial(self) -> Scorable:
        network, seeds = self.job.setup.network, self.work.seeds
        with exact_arithmetic(self.job.threads, "float32"):
            return Scorable(initialise(network, seeds), initial_buffers(network, seeds))

    def cut(self, weights: Scorable) -> Masks:
        """Raises LthError naming the level and the seeds that cannot be pruned so."""
        job, work = self.job, self.work
        with self.clock.time("storage"):
            before = masks_of(job, work, work.masks_from)
        cut_cohort = self._units_cut if job.setup.groups else self._weights_cut
        try:
            with exact_arithmetic(job.threads, "float32"), self.clock.time("pruning"):
                return cut_cohort(weights, before)
        except PruningFailed as error:
            seeds = [work.seeds[row] for row in error.rows]
            raise LthError(
                f"level {work.unit.level}, seed{'s' * (len(seeds) > 1)} {format_seeds(seeds)}: {error}"
            ) from None

    def _weights_cut(self, scorable: Scorable, masks: Masks) -> Masks:
        job, work = self.job, self.work
        setup, pruning, seeds = job.setup, job.experiment.pruning, work.seeds
        network, criterion = setup.network, CRITERIA[pruning.criterion]
        initial = initialise(network, seeds)
        device = choose_device(job.device, "float32")

        def scored_and_cut(rows: list[int]) -> Masks:
            some = tuple(seeds[row] for row in rows)
            cohort = Scored(
                network,
                some,
                scorable.weights[rows].to(device),
                {name: buffer[rows].to(device) for name, buffer in scorable.buffers.items()},
                initial[rows].to(device),
                {name: gathered[rows].to(device) for name, gathered in scorable.watched.items()},
                feed_of(job, self.data, some, device) if criterion.needs_data else None,
                setup.input_shape,
                setup.recipe.objective.loss,
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

        parts = list(in_memory(list(range(len(seeds))), seeds, scored_and_cut))
        return {name: torch.cat([part[name] for part in parts]) for name in masks}

    def _units_cut(self, scorable: Scorable, masks: Masks) -> Masks:
        """Whole units: every prunable weight that a removed unit writes or reads goes with it."""
        setup = self.job.setup
        alive = alive_units(setup.groups, masks)
        scores = unit_scores(
            setup.groups,
            alive,
            setup.network.layout.views(scorable.weights),
            self.job.experiment.pruning.criterion,
        )
        kept = keep_units(setup.groups, scores, alive, setup.counts[self.work.unit.level])
        shapes = {tensor.name: tensor.shape for tensor in setup.network.prunable}
        return {**masks, **unit_masks(setup.groups, kept, shapes)}
