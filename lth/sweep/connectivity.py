"""Linear mode connectivity of a sweep's networks: copies of a seed in other data orders, and the line between them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import pyarrow as pa
import torch

from lth.analysis.connectivity import BatchNorm, Copy, connectivity_rows, path_errors
from lth.arms import ARMS, Draw, Ticket, checked
from lth.data.examples import DataSet
from lth.engine import (
    CohortTraining,
    Start,
    choose_device,
    choose_program,
    exact_arithmetic,
    initial_buffers,
    initialise,
)
from lth.errors import InvalidExperiment, LthError
from lth.experiment import to_steps
from lth.experiment.durations import PATTERN
from lth.store import Unit
from lth.store.analysis_schemas import CONNECTIVITY
from lth.sweep.handover import Job
from lth.sweep.planning import Done, Key, Work, done_of, trainings_behind
from lth.sweep.sources import source_of
from lth.sweep.stages.feed import feed_of
from lth.sweep.stages.rewind import masks_of
from lth.sweep.stages.train import blocks


@dataclass(frozen=True)
class Measure:
    """How connectivity is measured: copies of every seed, points on the line, batch norm on it, and which splits."""

    copies: int = 3
    points: int = 30
    batch_norm: BatchNorm = "recompute"
    splits: tuple[str, ...] = ("test",)

    def __post_init__(self) -> None:
        if self.copies < 2 or self.points < 3:
            raise InvalidExperiment(
                f"a path needs two copies and three points at least; got copies {self.copies}, points {self.points}"
            )
        if unknown := [split for split in self.splits if split not in ("train", "test")]:
            raise InvalidExperiment(f"split {unknown[0]!r} is unknown; choose train, test or train,test")


@dataclass(frozen=True)
class Connection:
    """One piece of work: an arm and level of some seeds, branching at a step. `masks_from` names the ticket's units."""

    unit: Unit
    step: int
    masks_from: Mapping[int, str]


def missing(
    job: Job,
    seeds: Sequence[int],
    levels: Sequence[int],
    arms: Sequence[str],
    steps: Sequence[str],
    measure: Measure,
    cohort_size: int,
) -> list[Connection]:
    """What the store lacks of what is asked for; `steps` as `500it` or `3ep`.

    Raises InvalidExperiment for an arm or step that there is not, LthError for a level without masks.
    """
    experiment, recipe = job.experiment, job.setup.recipe
    if elsewhere := source_of(experiment).elsewhere:
        raise InvalidExperiment(f"connectivity is measured where tickets were found: ask for that of {elsewhere}")
    known = sorted({name for name, _ in experiment.draws()})
    if unknown := [arm for arm in arms if arm not in known]:
        raise InvalidExperiment(
            f"arm {unknown[0]!r} is not one of the experiment's: {', '.join(known)}; add it to "
            "arms, or choose one of these"
        )
    if unreadable := [step for step in steps if not re.fullmatch(PATTERN, step)]:
        raise InvalidExperiment(f"step {unreadable[0]!r} cannot be read; write steps as 500it or epochs as 3ep")
    per_epoch = (job.facts.examples - experiment.dataset.validation) // recipe.batch_size
    at = list(dict.fromkeys(to_steps(step, per_epoch) for step in steps))
    if late := [step for step in steps if to_steps(step, per_epoch) >= recipe.steps]:
        raise InvalidExperiment(f"step {late[0]} is past the end of a training of {recipe.steps} steps; part earlier")
    # How many levels there are is no part of the id: the store may hold more than this experiment asks for.
    pruning = experiment.pruning.model_copy(update={"levels": max(levels, default=0)})
    done = done_of(experiment.model_copy(update={"pruning": pruning}), seeds, job.store.committed(experiment.id))
    if bare := [level for level in levels if level and not any(("ticket", 0, level, seed) in done for seed in seeds)]:
        raise LthError(
            f"level {bare[0]} of {experiment.id} has no masks in {job.store.url} for these seeds; run the "
            "sweep first, or choose other levels"
        )
    draws = [(arm, draw) for arm, draw in experiment.draws() if arm in arms]
    table, _ = job.store.read_analysis("connectivity", experiment.id)
    return connections(draws, levels, at, seeds, cohort_size, done, measure, table)


def connections(
    arms: Sequence[tuple[str, int]],
    levels: Sequence[int],
    steps: Sequence[int],
    seeds: Sequence[int],
    cohort_size: int,
    done: Mapping[Key, Done],
    measure: Measure,
    known: pa.Table,
) -> list[Connection]:
    """What is still to be measured, of seeds that have a mask. Arms that start afresh have no other step than 0."""
    pieces = []
    have = measured(known, measure)
    for level in levels:
        for arm, draw in arms:
            for step in steps:
                if (level == 0 and arm != "ticket") or (step and ARMS[arm].fresh):
                    continue
                todo = [
                    seed
                    for seed in seeds
                    if (arm, draw, level, step, seed) not in have
                    and (level == 0 or (("ticket", 0, level, seed) in done and done["ticket", 0, level, seed].has_mask))
                ]
                for start in range(0, len(todo), cohort_size):
                    some = tuple(todo[start : start + cohort_size])
                    masks = {seed: done["ticket", 0, level, seed].unit for seed in some} if level else {}
                    pieces.append(Connection(Unit(arm, draw, level, some), step, masks))
    return pieces


def measured(known: pa.Table, measure: Measure) -> set[tuple[str, int, int, int, int]]:
    """The (arm, draw, level, step, seed) of CONNECTIVITY rows whose every pair and split has been measured so."""
    pairs = set(combinations(range(1, measure.copies + 1), 2))
    wanted = {(pair, split) for pair in pairs for split in measure.splits}
    have: dict[tuple[str, int, int, int, int], set[tuple[tuple[int, int], str]]] = {}
    for row in known.select([name for name in CONNECTIVITY.names if name not in ("errors", "losses")]).to_pylist():
        if row["points"] == measure.points and row["batch_norm"] == measure.batch_norm:
            place = (row["arm"], row["draw"], row["level"], row["step"], row["seed"])
            have.setdefault(place, set()).add(((row["copy_a"], row["copy_b"]), row["split"]))
    return {place for place, done in have.items() if wanted <= done}


def connect(job: Job, connection: Connection, measure: Measure, data: DataSet) -> pa.Table:
    """The rows of CONNECTIVITY of one piece of work.

    The weights of step k of the dense training, made into what the arm trains at the level, are trained to the end
    once per copy, each with a data order and augmentation of its own; every pair of copies makes a path.
    """
    setup, unit = job.setup, connection.unit
    device = choose_device(job.device, setup.recipe.precision)
    tables = []
    with exact_arithmetic(job.threads, setup.recipe.precision):
        for block in blocks(setup.network, len(unit.seeds), device):
            some = Unit(unit.arm, unit.draw, unit.level, unit.seeds[block])
            tables += _connected(job, some, connection, measure, data, device)
    return pa.concat_tables(tables)


def _connected(
    job: Job, unit: Unit, connection: Connection, measure: Measure, data: DataSet, device: torch.device
) -> list[pa.Table]:
    setup, network = job.setup, job.setup.network
    feed = feed_of(job, data, unit.seeds, device)
    masks = masks_of(
        job,
        Work(unit, unit.seeds, ()),
        {seed: connection.masks_from[seed] for seed in unit.seeds} if unit.level else {},
    )
    # As fresh weights are trained, whatever the rewinding: the recipe of level 0.
    recipe = setup.recipe_of(unit.arm, 0, trainings_behind(job.experiment, unit.level))
    recipe = replace(recipe, evaluate_every=10**9, watchers=())
    weights, buffers = initialise(network, unit.seeds), initial_buffers(network, unit.seeds)
    if connection.step:
        whole = Start(weights, buffers, torch.ones_like(weights, dtype=torch.bool))
        dense = CohortTraining(network, recipe, feed, whole).advance(until=connection.step)
        weights, buffers = dense.weights.cpu(), {name: buffer.cpu() for name, buffer in dense.buffers.items()}
    draw = Draw(network, unit.seeds, unit.level, unit.draw, setup.groups)
    ticket = checked(unit.arm, ARMS[unit.arm].make(Ticket(masks, weights, buffers), draw), draw)
    start = Start(ticket.weights, ticket.buffers, setup.mask_rows(ticket.masks), connection.step)
    copies: dict[int, Copy] = {}
    lost: dict[int, torch.Tensor] = {}
    for number in range(1, measure.copies + 1):
        branch = replace(recipe, copy=number)
        trained = CohortTraining(network, branch, feed, start).advance()
        copies[number], lost[number] = (trained.weights, trained.buffers), trained.result().diverged
    program = choose_program(network, recipe.objective, unit.seeds, device, recipe.precision)
    tables = []
    for a, b in combinations(copies, 2):
        for split in measure.splits:
            errors, losses = path_errors(
                network,
                program,
                recipe.objective,
                feed,
                copies[a],
                copies[b],
                points=measure.points,
                batch_norm=measure.batch_norm,
                split=split,
            )
            tables.append(
                connectivity_rows(
                    errors,
                    losses,
                    job.experiment.id,
                    unit,
                    step=connection.step,
                    copies=(a, b),
                    split=split,
                    batch_norm=measure.batch_norm,
                    diverged=lost[a] | lost[b],
                )
            )
    return tables
