"""The stage `evaluate`: the test set at two steps, what a network costs, and the commit of the unit."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from lth.analysis.layers import layer_table
from lth.arms import Ticket
from lth.data.examples import DataSet
from lth.engine import Network, Trained, choose_device, choose_program, evaluate, exact_arithmetic
from lth.engine.named_tensors import mapped
from lth.store import Unit
from lth.structured import SmallCohort, alive_units, measure, same_counts
from lth.sweep import tables
from lth.sweep.handover import Job, forget_parents, kept_for_later
from lth.sweep.planning import DONE_COLUMNS, Done, Work
from lth.sweep.stages.clock import Clock
from lth.sweep.stages.feed import feed_of
from lth.sweep.stages.gpu_memory import in_memory
from lth.sweep.stages.train import blocks

LATENCY_BATCH = 64


@dataclass(frozen=True)
class Evaluated:
    """A unit that lies in the store: what later units need to know of each seed, and the seconds it took."""

    done: dict[int, Done]
    seconds: dict[str, float]


def evaluate_unit(job: Job, work: Work, ticket: Ticket | None, trained: Trained | None, data: DataSet) -> Evaluated:
    """Read the test set at the early-stop and at the last step, and commit the unit; without a training, if all of its
    seeds are lost."""
    clock, setup = Clock(), job.setup
    recipe, network = setup.recipe, setup.network
    device = choose_device(job.device, recipe.precision)
    figures: tables.Figures | None = None
    masks: dict[str, torch.Tensor] = {}
    latency: np.ndarray[Any, Any] | None = None
    layers: pa.Table | None = None
    if trained is not None:
        masks = masks_of_rows(network, trained.mask)
        with exact_arithmetic(job.threads, recipe.precision), clock.time("evaluation"):
            every = list(range(len(work.seeds)))
            figures_of = partial(_figures, job, work, trained, data, device)
            figures = tables.Figures.joined(
                [
                    found
                    for block in blocks(network, len(every), device)
                    for found in in_memory(every[block], work.seeds, figures_of)
                ]
            )
            latency = _latency(job, masks, device) if setup.groups else None
            unit = Unit(work.unit.arm, work.unit.draw, work.unit.level, work.seeds)
            layers = layer_table(network, masks, setup.input_shape, job.experiment.id, unit)
    with clock.time("storage"):
        checkpoint = kept_for_later(job.experiment, setup, work, trained)
        written = tables.tables(
            job.experiment,
            setup,
            work,
            {name: mask.numpy() for name, mask in masks.items()},
            trained,
            figures,
            latency,
            device=_device_name(device),
            threads=job.threads,
            code_version=job.code_version,
            score=recipe.objective.score,
        )
        if layers is not None:
            job.store.put_analysis("layers", job.experiment.id, layers)
        job.store.commit(job.experiment.id, work.unit, *written, checkpoint=checkpoint)
        forget_parents(job, work)
        if job.save_every is not None:
            job.store.forget_progress(job.experiment.id, work.unit)
    done = {row["seed"]: Done.of(work.unit.name, row) for row in written[0].select(DONE_COLUMNS).to_pylist()}
    return Evaluated(done, clock.seconds)


def masks_of_rows(network: Network, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Masks [seeds, *shape] of the prunable tensors, from rows [seeds, width]."""
    views = network.layout.views(rows)
    return {tensor.name: views[tensor.name].contiguous() for tensor in network.prunable}


def _figures(
    job: Job, work: Work, trained: Trained, data: DataSet, device: torch.device, block: list[int]
) -> tables.Figures:
    seeds = tuple(work.seeds[row] for row in block)
    network, recipe = job.setup.network, job.setup.recipe
    feed = feed_of(job, data, seeds, device)
    program = choose_program(network, recipe.objective, seeds, device, recipe.precision)
    end, early = (
        mapped(snapshot, lambda tensor: tensor[block].to(device)) for snapshot in (trained.end, trained.early_stop)
    )
    measured = (
        evaluate(program, recipe.objective, snapshot.weights, snapshot.buffers, feed, split)
        for snapshot, split in ((end, "train"), (end, "test"), (early, "test"))
    )
    return tables.Figures(*(figure.cpu().numpy() for pair in measured for figure in pair))


def _latency(job: Job, masks: Mapping[str, torch.Tensor], device: torch.device) -> np.ndarray[Any, Any]:
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
