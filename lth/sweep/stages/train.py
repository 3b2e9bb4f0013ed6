"""The stage `train`: a unit's cohort, block after block, without the units that are removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from lth.data import ImageData
from lth.engine import CohortTraining, Network, Start, Trained, choose_device, exact_arithmetic, make_feed
from lth.structured import SmallCohort, alive_units, same_counts
from lth.sweep.checkpointing import Saves
from lth.sweep.handover import Arrays, Job, named
from lth.sweep.planning import Work, trainings_behind
from lth.sweep.stages.clock import Clock, Stage
from lth.sweep.stages.gpu_memory import in_memory

# Bytes of one block's weights, gradient, moments and mask: what a core keeps close. A cohort on a CPU trains block
# after block; results do not depend on it.
CPU_BLOCK_BYTES = 11 * 2**20


def train_unit(
    job: Job, work: Work, ticket: Arrays, data: ImageData, on_progress: Callable[[int], None] | None = None
) -> Stage:
    """Train the unit's cohort from its ticket; `on_progress` is given the seed-steps done since its last call.

    Goes on from where it was saved, if it was. Where a GPU has no memory for a block of seeds, the block is halved.
    LthError if one seed alone does not fit.
    """
    unit, setup = work.unit, job.setup
    recipe = setup.recipe_of(unit.arm, unit.level, trainings_behind(job.experiment, unit.level))
    start_step = setup.start_step(unit.arm, unit.level)
    device = choose_device(job.device, recipe.precision)
    clock, parts, seconds, order = Clock(), [], [], []
    saves = Saves(job, unit, len(work.seeds), recipe.steps - start_step, device)

    def train_block(rows: list[int], smaller: Smaller) -> tuple[list[int], Arrays, float, float, float]:
        begun = time.perf_counter()
        seeds, small = tuple(work.seeds[row] for row in rows), smaller(rows)
        feed = make_feed(data, seeds, job.experiment.dataset.validation, job.experiment.dataset.standardise, device)
        network, start = _start(job, ticket, rows, small, start_step)
        training = CohortTraining(network, recipe, feed, start)
        progress = _in_seed_steps(on_progress, start_step, len(rows))
        with saves.following(training, seeds, start) as before:
            result = training.advance(on_progress=progress, on_step=saves.after_step).result()
        return rows, _arrays(result, small), before, time.perf_counter() - begun, training.evaluation_seconds

    with exact_arithmetic(job.threads, recipe.precision):
        for block, smaller in _blocks(job, ticket, device):
            for rows, arrays, before, spent, evaluating in in_memory(
                block, work.seeds, partial(train_block, smaller=smaller)
            ):
                parts.append(arrays)
                order += rows
                seconds += [(before + spent) / len(rows)] * len(rows)
                clock.add("evaluation", evaluating)
                clock.add("training", spent - evaluating)
    back = np.argsort(order)
    joined = {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0] if name != "steps"}
    return Stage({**joined, "steps": parts[0]["steps"], "seconds": np.array(seconds)[back]}, clock.seconds)


def blocks(network: Network, seeds: int, device: torch.device) -> list[slice]:
    """How a cohort is cut for training: whole on a GPU, by cache on a CPU."""
    size = seeds if device.type == "cuda" else max(1, CPU_BLOCK_BYTES // (network.layout.width * 4 * 5))
    return [slice(start, min(start + size, seeds)) for start in range(0, seeds, size)]


Smaller = Callable[[list[int]], SmallCohort | None]


def _blocks(job: Job, ticket: Arrays, device: torch.device) -> Iterator[tuple[list[int], Smaller]]:
    """Rows of the cohort that train side by side; where units are removed, with what makes the smaller network of
    such rows."""
    network, groups = job.setup.network, job.setup.groups
    every = list(range(len(ticket["weights"])))
    if not groups:
        yield from ((every[block], lambda rows: None) for block in blocks(network, len(every), device))
        return
    alive = alive_units(groups, {name: torch.from_numpy(mask) for name, mask in named(ticket, "masks/").items()})

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


def _start(job: Job, ticket: Arrays, rows: list[int], small: SmallCohort | None, step: int) -> tuple[Network, Start]:
    """The network and the start of a block; indexing by a list copies, so that nothing shared is written to."""
    taken = {name: torch.from_numpy(array[rows]) for name, array in ticket.items()}
    network = job.setup.network
    weights, buffers = taken["weights"], named(taken, "buffers/")
    if small is None:
        return network, Start(weights, buffers, network.masks(named(taken, "masks/")), step)
    weights, buffers = small.cut(weights, buffers)
    return small.network, Start(weights, buffers, torch.ones_like(weights, dtype=torch.bool), step)


def _arrays(result: Trained, small: SmallCohort | None) -> Arrays:
    """A finished training in the coordinates of the whole network."""

    def whole(rows: torch.Tensor, buffers: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return (rows, buffers) if small is None else small.paste(rows, buffers)

    arrays = {"early_stop/step": result.early_stop_step, "diverged": result.diverged}
    for prefix, rows, buffers in (
        ("", result.weights, result.buffers),
        ("early_stop/", result.early_stop_weights, result.early_stop_buffers),
        ("rewind/", result.rewind_weights, result.rewind_buffers or {}),
    ):
        if rows is not None:
            arrays[f"{prefix}weights"], full = whole(rows, buffers)
            arrays.update({f"{prefix}buffers/{name}": buffer for name, buffer in full.items()})
    if result.movement is not None:
        arrays["movement"] = result.movement
    curves = result.curves
    for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
        arrays["curves/" + name] = getattr(curves, name).T.contiguous()  # [seeds, evaluations]
    return {"steps": np.array(curves.steps), **{name: tensor.numpy() for name, tensor in arrays.items()}}
