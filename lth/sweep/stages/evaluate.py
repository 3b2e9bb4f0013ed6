"""The stage `evaluate`: the test set at two steps, what a network costs, and the commit of the unit."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from lth.analysis.layers import layer_table
from lth.data import ImageData
from lth.engine import choose_device, choose_program, evaluate, exact_arithmetic
from lth.store import Unit
from lth.structured import SmallCohort, alive_units, measure, same_counts
from lth.sweep import tables
from lth.sweep.handover import Arrays, Job, forget_parents, kept_for_later, named
from lth.sweep.planning import DONE_COLUMNS, Done, Work
from lth.sweep.stages.clock import Clock
from lth.sweep.stages.gpu_memory import in_memory
from lth.sweep.stages.rewind import feed_of
from lth.sweep.stages.train import blocks

LATENCY_BATCH = 64


@dataclass(frozen=True)
class Evaluated:
    """A unit that lies in the store: what later units need to know of each seed, and the seconds it took."""

    done: dict[int, Done]
    seconds: dict[str, float]


def evaluate_unit(job: Job, work: Work, ticket: Arrays | None, trained: Arrays | None, data: ImageData) -> Evaluated:
    """Read the test set at the early-stop and at the last step, and commit the unit."""
    clock, recipe, network = Clock(), job.setup.recipe, job.setup.network
    device = choose_device(job.device, recipe.precision)
    figures: tables.Figures | None = None
    masks = {} if ticket is None else {name: torch.from_numpy(mask) for name, mask in named(ticket, "masks/").items()}
    latency: np.ndarray | None = None
    with exact_arithmetic(job.threads, recipe.precision):
        if ticket is not None and trained is not None:
            with clock.time("evaluation"):
                every = list(range(len(work.seeds)))
                figures_of = partial(_figures, job, work, trained, data, device)
                figures = tables.Figures.joined(
                    [
                        found
                        for block in blocks(network, len(every), device)
                        for found in in_memory(every[block], work.seeds, figures_of)
                    ]
                )
                latency = _latency(job, masks, device) if job.setup.groups else None
        if masks:
            with clock.time("evaluation"):
                unit = Unit(work.unit.arm, work.unit.draw, work.unit.level, work.seeds)
                layers = layer_table(network, masks, job.setup.input_shape, job.experiment.id, unit)
    with clock.time("storage"):
        checkpoint = kept_for_later(job.experiment, network, work, trained)
        written = tables.tables(
            job.experiment,
            job.setup,
            work,
            {name: mask.numpy() for name, mask in masks.items()},
            trained,
            figures,
            latency,
            device=_device_name(device),
            threads=job.threads,
            code_version=job.code_version,
        )
        if masks:
            job.store.put_analysis("layers", job.experiment.id, layers)
        job.store.commit(job.experiment.id, work.unit, *written, checkpoint=checkpoint)
        forget_parents(job, work)
        if job.save_every is not None:
            job.store.forget_progress(job.experiment.id, work.unit)
    done = {row["seed"]: Done.of(work.unit.name, row) for row in written[0].select(DONE_COLUMNS).to_pylist()}
    return Evaluated(done, clock.seconds)


def _figures(
    job: Job, work: Work, trained: Arrays, data: ImageData, device: torch.device, block: list[int]
) -> tables.Figures:
    seeds = tuple(work.seeds[row] for row in block)
    network, precision = job.setup.network, job.setup.recipe.precision
    feed = feed_of(job, data, seeds, device)
    program = choose_program(network, seeds, device, precision)
    tensors = {
        name: torch.from_numpy(array[block]).to(device)
        for name, array in trained.items()
        if name not in ("steps", "seconds")
    }
    final, early = (
        (tensors["weights"], named(tensors, "buffers/")),
        (tensors["early_stop/weights"], named(tensors, "early_stop/buffers/")),
    )
    return tables.Figures(
        *(
            figure.cpu().numpy()
            for pair in (
                evaluate(program, *final, feed, "train"),
                evaluate(program, *final, feed, "test"),
                evaluate(program, *early, feed, "test"),
            )
            for figure in pair
        )
    )


def _latency(job: Job, masks: Mapping[str, torch.Tensor], device: torch.device) -> np.ndarray:
    """Seconds of a forward pass of LATENCY_BATCH examples through each seed's network without its removed units."""
    alive = alive_units(job.setup.groups, masks)
    seconds = np.zeros(len(alive[0]))
    for part in same_counts(alive):  # equal sizes, equal times: one of them is measured
        small = SmallCohort(job.setup.network, job.setup.groups, [units[part[:1]] for units in alive])
        module = small.network.module.to(device)
        seconds[part] = measure(module, job.setup.input_shape, batch=LATENCY_BATCH, repeats=10).latency_seconds
    return seconds


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()})"
