"""The stages of a unit: prune, rewind, train, evaluate. Plain functions of plain arrays, for any orchestrator.

What passes between the stages of one unit is a dict of NumPy arrays with a leading axis of seeds; what passes between
units goes through the store. Each stage returns the seconds that it spent by purpose, so that a run can say where its
time went.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from lth.arms import ARMS, Draw, Ticket
from lth.data import ImageData
from lth.engine import (
    CohortTraining,
    Feed,
    Network,
    Start,
    Trained,
    choose_device,
    choose_program,
    evaluate,
    exact_arithmetic,
    initial_buffers,
    initialise,
    make_feed,
)
from lth.errors import LthError
from lth.experiment import format_seeds
from lth.pruning import CRITERIA, select
from lth.store import Unit
from lth.sweep import rows
from lth.sweep.handover import Arrays, Job, forget_parents, gathered, kept_for_later, named
from lth.sweep.planning import Done, Work, parent_level

# Bytes of one block's weights, gradient, moments and mask: what a core keeps close. A cohort on a CPU trains block
# after block; results do not depend on it.
CPU_BLOCK_BYTES = 11 * 2**20


@dataclass
class Clock:
    """Seconds spent by purpose: training, evaluation, storage, pruning."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, purpose: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[purpose] = self.seconds.get(purpose, 0.0) + time.perf_counter() - begun


@dataclass(frozen=True)
class Stage:
    """What a stage hands on: arrays for the next stage, and its seconds by purpose."""

    arrays: Arrays
    seconds: dict[str, float]


@dataclass(frozen=True)
class Committed:
    """A unit that lies in the store: what later units need to know of each seed, and the seconds it took."""

    done: dict[int, Done]
    seconds: dict[str, float]


def prune(job: Job, work: Work, data: ImageData) -> Stage:
    """The masks of a ticket unit: the trained weights of the level before, scored, the lowest removed.

    Trained weights that are no longer in the store are trained again from the mask of their level: on a CPU to the bit.
    """
    clock = Clock()
    pruning, counts = job.experiment.pruning, job.setup.counts[work.unit.level]
    with clock.time("storage"):
        before = job.store.read_masks(job.experiment.id, dict(work.masks_from))
        trained = gathered(job, work.trained_from, "trained/")
    if trained is None:
        parent = parent_level(job.experiment, work.unit)
        again = _train_again(job, work, parent, data, clock)
        trained = job.setup.network.layout.views(torch.from_numpy(again["weights"]))
    with exact_arithmetic(job.threads, "float32"), clock.time("pruning"):
        score = CRITERIA[pruning.criterion][0]
        masks = {tensor.name: torch.from_numpy(before[tensor.name]) for tensor in job.setup.network.prunable}
        scores = {name: score(trained[name]) for name in masks}
        try:
            masks = select(scores, masks, counts)
        except LthError as error:
            raise LthError(f"level {work.unit.level}, seeds {format_seeds(work.seeds)}: {error}") from None
    return Stage({f"masks/{name}": mask.numpy() for name, mask in masks.items()}, clock.seconds)


def rewind(job: Job, work: Work, data: ImageData, pruned: Arrays | None = None) -> Stage:
    """The ticket of the unit's arm: masks, and weights rewound to initialisation or to step k.

    A rewind point that is no longer in the store is trained again: on a CPU to the bit.
    """
    clock = Clock()
    network, seeds, unit = job.setup.network, work.seeds, work.unit
    with exact_arithmetic(job.threads, "float32"):
        with clock.time("storage"):
            masks = _masks(job, work, pruned)
        with clock.time("pruning"):
            weights, buffers, step = initialise(network, seeds), initial_buffers(network, seeds), 0
        if work.rewind_from:
            with clock.time("storage"):
                late = gathered(job, work.rewind_from, "rewind/")
            if late is None:
                again = _train_again(job, work, 0, data, clock)
                late = {**network.layout.views(torch.from_numpy(again["rewind/weights"])),
                        **{f"buffers/{name}": torch.from_numpy(again[f"rewind/buffers/{name}"]) for name in buffers}}
            weights = network.layout.rows({slot.name: late[slot.name] for slot in network.layout.slots})
            buffers = {name: late[f"buffers/{name}"] for name in buffers}
            step = job.setup.recipe.rewind_step or 0
        with clock.time("pruning"):
            arm = ARMS[unit.arm][0]
            ticket = arm(Ticket(masks, weights, buffers, step), Draw(network, seeds, unit.level, unit.draw))
    arrays = {"weights": ticket.weights.numpy(), "step": np.array(ticket.step)}
    arrays.update({f"buffers/{name}": buffer.numpy() for name, buffer in ticket.buffers.items()})
    arrays.update({f"masks/{name}": mask.numpy() for name, mask in ticket.masks.items()})
    return Stage(arrays, clock.seconds)


def train(
    job: Job, work: Work, ticket: Arrays, data: ImageData, on_progress: Callable[[int], None] | None = None
) -> Stage:
    """Train the unit's cohort from its ticket; `on_progress` is given the seed-steps done since its last call."""
    recipe, network = job.setup.recipe, job.setup.network
    if work.unit.level:  # only the dense training has a rewind point to keep
        recipe = replace(recipe, rewind_step=None)
    device = choose_device(job.device, recipe.precision)
    clock, parts, seconds = Clock(), [], []
    start_step = int(ticket["step"])
    with exact_arithmetic(job.threads, recipe.precision):
        for block in blocks(network, len(work.seeds), device):
            begun = time.perf_counter()
            feed = _feed(job, data, work.seeds[block], device)
            arrays = {name: torch.from_numpy(array[block].copy()) for name, array in ticket.items()
                      if name != "step"}
            masks = {name.removeprefix("masks/"): mask for name, mask in arrays.items() if name.startswith("masks/")}
            start = Start(arrays["weights"], named(arrays, "buffers/"), network.masks(masks), start_step)
            training = CohortTraining(network, recipe, feed, start)
            reached = start_step

            def report(step: int, size: int = len(feed.seeds)) -> None:
                nonlocal reached
                if on_progress:
                    on_progress((step - reached) * size)
                reached = step

            training.advance(on_progress=report)
            result = training.result()
            parts.append(_trained_arrays(result))
            seconds += [(time.perf_counter() - begun) / len(feed.seeds)] * len(feed.seeds)
            clock.seconds["evaluation"] = clock.seconds.get("evaluation", 0.0) + training.evaluation_seconds
            clock.seconds["training"] = (clock.seconds.get("training", 0.0) + time.perf_counter() - begun
                                         - training.evaluation_seconds)
    arrays_out = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "steps"}
    arrays_out["steps"] = parts[0]["steps"]
    arrays_out["seconds"] = np.array(seconds)
    return Stage(arrays_out, clock.seconds)


def evaluate_and_commit(
    job: Job, work: Work, ticket: Arrays | None, trained: Arrays | None, data: ImageData
) -> Committed:
    """Read the test set at the early-stop and at the last step, and commit the unit."""
    clock, recipe, network = Clock(), job.setup.recipe, job.setup.network
    device = choose_device(job.device, recipe.precision)
    figures: rows.Figures | None = None
    if ticket is not None and trained is not None:
        with exact_arithmetic(job.threads, recipe.precision), clock.time("evaluation"):
            found = [_figures(job, work.seeds[block], _cut(trained, block), data, device)
                     for block in blocks(network, len(work.seeds), device)]
            figures = rows.Figures.joined(found)
    with clock.time("storage"):
        checkpoint = kept_for_later(network, work, trained)
        masks = {} if ticket is None else {name.removeprefix("masks/"): mask for name, mask in ticket.items()
                                           if name.startswith("masks/")}
        tables = rows.tables(job.experiment, job.setup, work, masks, trained, figures,
                             device=_device_name(device), threads=job.threads, code_version=job.code_version)
        job.store.commit(job.experiment.id, work.unit, *tables, checkpoint=checkpoint)
        forget_parents(job, work)
    levels = tables[0].select(["seed", "status", "mask_sha256"]).to_pylist()
    done = {row["seed"]: Done(work.unit.name, row["status"] == "diverged", row["mask_sha256"] is not None)
            for row in levels}
    return Committed(done, clock.seconds)


def blocks(network: Network, seeds: int, device: torch.device) -> list[slice]:
    """How a cohort is cut for training: whole on a GPU, by cache on a CPU."""
    size = seeds if device.type == "cuda" else max(1, CPU_BLOCK_BYTES // (network.layout.width * 4 * 5))
    return [slice(start, min(start + size, seeds)) for start in range(0, seeds, size)]


def _masks(job: Job, work: Work, pruned: Arrays | None) -> dict[str, torch.Tensor]:
    tensors = job.setup.network.prunable
    if pruned is not None:
        return {tensor.name: torch.from_numpy(pruned[f"masks/{tensor.name}"].copy()) for tensor in tensors}
    if work.unit.level == 0:
        return {tensor.name: torch.ones(len(work.seeds), *tensor.shape, dtype=torch.bool) for tensor in tensors}
    read = job.store.read_masks(job.experiment.id, dict(work.masks_from))
    return {tensor.name: torch.from_numpy(read[tensor.name]) for tensor in tensors}


def _train_again(job: Job, work: Work, level: int, data: ImageData, clock: Clock) -> Arrays:
    """The training of the ticket of `level` for the seeds of `work`, once more; nothing of it is committed."""
    masks_from = work.masks_from if level == parent_level(job.experiment, work.unit) else {}
    past = Work(Unit("ticket", 0, level, work.seeds), work.seeds, (), masks_from,
                rewind_from=work.rewind_from if level else {})
    ticket = rewind(job, past, data)
    trained = train(job, past, ticket.arrays, data)
    for stage in (ticket, trained):
        for purpose, spent in stage.seconds.items():
            clock.seconds[purpose] = clock.seconds.get(purpose, 0.0) + spent
    return trained.arrays


def _feed(job: Job, data: ImageData, seeds: tuple[int, ...], device: torch.device) -> Feed:
    return make_feed(data, seeds, job.experiment.dataset.validation, job.experiment.dataset.standardise, device)


def _figures(
    job: Job, seeds: tuple[int, ...], trained: Mapping[str, np.ndarray], data: ImageData, device: torch.device
) -> rows.Figures:
    network, precision = job.setup.network, job.setup.recipe.precision
    feed = _feed(job, data, seeds, device)
    program = choose_program(network, seeds, device, precision)
    tensors = {name: torch.from_numpy(array.copy()).to(device) for name, array in trained.items()}
    final, early = (tensors["weights"], named(tensors, "buffers/")), \
        (tensors["early_stop/weights"], named(tensors, "early_stop/buffers/"))
    return rows.Figures(*(figure.cpu().numpy() for pair in (
        evaluate(program, *final, feed, "train"), evaluate(program, *final, feed, "test"),
        evaluate(program, *early, feed, "test")) for figure in pair))


def _trained_arrays(result: Trained) -> Arrays:
    arrays = {"weights": result.weights, "early_stop/weights": result.early_stop_weights,
              "early_stop/step": result.early_stop_step, "diverged": result.diverged}
    for prefix, buffers in (("buffers/", result.buffers), ("early_stop/buffers/", result.early_stop_buffers),
                            ("rewind/buffers/", result.rewind_buffers or {})):
        arrays.update({prefix + name: buffer for name, buffer in buffers.items()})
    if result.rewind_weights is not None:
        arrays["rewind/weights"] = result.rewind_weights
    curves = result.curves
    for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
        arrays["curves/" + name] = getattr(curves, name).T.contiguous()  # [seeds, evaluations]
    return {"steps": np.array(curves.steps), **{name: tensor.numpy() for name, tensor in arrays.items()}}


def _cut(arrays: Mapping[str, np.ndarray], block: slice) -> Arrays:
    return {name: array[block] for name, array in arrays.items() if name not in ("steps", "seconds")}


def _device_name(device: torch.device) -> str:
    import platform

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()})"
