"""The stage `train`: a unit's cohort, block after block, without the units that are removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from lth.arms import Ticket
from lth.data.examples import DataSet
from lth.engine import CohortTraining, Network, Snapshot, Start, Trained, choose_device, exact_arithmetic, joined
from lth.structured import SmallCohort, alive_units, same_counts
from lth.sweep.checkpointing import Saves
from lth.sweep.handover import Job
from lth.sweep.planning import Work, trainings_behind
from lth.sweep.stages.clock import Clock, Stage
from lth.sweep.stages.feed import feed_of
from lth.sweep.stages.gpu_memory import in_memory

# Bytes of one block's weights, gradient, moments and mask: what a core keeps close. A cohort on a CPU trains block
# after block; results do not depend on it.
CPU_BLOCK_BYTES = 11 * 2**20


def train_unit(
    job: Job, work: Work, ticket: Ticket, data: DataSet, on_progress: Callable[[int], None] | None = None
) -> Stage[Trained]:
    """Train the unit's cohort from its ticket; `on_progress` is given the seed-steps done since its last call.

    Goes on from where it was saved, if it was. Where a GPU has no memory for a block of seeds, the block is halved.
    LthError if one seed alone does not fit.
    """
    unit, setup = work.unit, job.setup
    recipe = setup.recipe_of(unit.arm, unit.level, trainings_behind(job.experiment, unit.level))
    start_step = setup.start_step(unit.arm, unit.level)
    device = choose_device(job.device, recipe.precision)
    clock, order = Clock(), list[int]()
    parts, seconds = list[Trained](), list[float]()
    saves = Saves(job, unit, len(work.seeds), recipe.steps - start_step, device)

    def train_block(rows: list[int], smaller: Smaller) -> tuple[list[int], Trained, float]:
        begun = time.perf_counter()
        seeds, small = tuple(work.seeds[row] for row in rows), smaller(rows)
        feed = feed_of(job, data, seeds, device)
        network, start = _start(job, ticket, rows, small, start_step)
        training = CohortTraining(network, recipe, feed, start)
        progress = _in_seed_steps(on_progress, start_step, len(rows))
        with saves.following(training, seeds, start) as before:
            trained = training.advance(on_progress=progress, on_step=saves.after_step).result()
        spent = time.perf_counter() - begun
        clock.add("evaluation", training.evaluation_seconds)
        clock.add("training", spent - training.evaluation_seconds)
        return rows, trained if small is None else _whole(trained, small), before + spent

    with exact_arithmetic(job.threads, recipe.precision):
        for block, smaller in _blocks(job, ticket, device):
            for rows, trained, spent in in_memory(block, work.seeds, partial(train_block, smaller=smaller)):
                parts.append(trained)
                order += rows
                seconds += [spent / len(rows)] * len(rows)
    back = torch.tensor(order).argsort()
    together = replace(joined(parts, order), seconds=torch.tensor(seconds, dtype=torch.float64)[back])
    return Stage(together, clock.seconds)


def blocks(network: Network, seeds: int, device: torch.device) -> list[slice]:
    """How a cohort is cut for training: whole on a GPU, by cache on a CPU."""
    size = seeds if device.type == "cuda" else max(1, CPU_BLOCK_BYTES // (network.layout.width * 4 * 5))
    return [slice(start, min(start + size, seeds)) for start in range(0, seeds, size)]


Smaller = Callable[[list[int]], SmallCohort | None]


def _blocks(job: Job, ticket: Ticket, device: torch.device) -> Iterator[tuple[list[int], Smaller]]:
    """Rows of the cohort that train side by side; where units are removed, with what makes the smaller network of
    such rows."""
    network, groups = job.setup.network, job.setup.groups
    every = list(range(len(ticket.weights)))
    if not groups:
        yield from ((every[block], lambda rows: None) for block in blocks(network, len(every), device))
        return
    alive = alive_units(groups, ticket.masks)

    def smaller(rows: list[int]) -> SmallCohort:
        return SmallCohort(network, groups, [units[rows] for units in alive])

    for part in same_counts(alive):
        for block in blocks(smaller(part[:1]).network, len(part), device):
            yield part[block], smaller


def _in_seed_steps(on_progress: Callable[[int], None] | None, start: int, size: int) -> Callable[[int], None]:
    """Turns the steps of a block into the seed-steps that were done since the last call."""
    reached = start

    def report(step: int) -> None:
        nonlocal reached
        if on_progress:
            on_progress((step - reached) * size)
        reached = step

    return report


def _start(job: Job, ticket: Ticket, rows: list[int], small: SmallCohort | None, step: int) -> tuple[Network, Start]:
    """The network and the start of a block; indexing by a list copies, so that nothing shared is written to."""
    network = job.setup.network
    weights, buffers = ticket.weights[rows], {name: buffer[rows] for name, buffer in ticket.buffers.items()}
    if small is None:
        mask = network.masks({name: mask[rows] for name, mask in ticket.masks.items()})
        return network, Start(weights, buffers, mask, step)
    weights, buffers = small.cut(weights, buffers)
    return small.network, Start(weights, buffers, torch.ones_like(weights, dtype=torch.bool), step)


def _whole(trained: Trained, small: SmallCohort) -> Trained:
    """A finished training in the coordinates of the whole network: what watchers kept as rows of weights, too."""

    def snapshot(of: Snapshot) -> Snapshot:
        return Snapshot(*small.paste(of.weights, of.buffers))

    def rows(of: torch.Tensor) -> torch.Tensor:
        return small.paste(of, {})[0] if of.ndim == 2 and of.shape == trained.mask.shape else of

    return replace(
        trained,
        end=snapshot(trained.end),
        early_stop=snapshot(trained.early_stop),
        rewind_point=None if trained.rewind_point is None else snapshot(trained.rewind_point),
        mask=rows(trained.mask.float()) > 0,
        kept={name: {each: rows(tensor) for each, tensor in kept.items()} for name, kept in trained.kept.items()},
    )
