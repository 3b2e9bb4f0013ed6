"""What a sweep will cost, from a few real steps on this machine and the sizes of what it writes."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import torch

from lth.data.examples import TARGET, DataSet
from lth.engine import (
    CohortTraining,
    Feed,
    Start,
    choose_program,
    evaluate,
    exact_arithmetic,
    initial_buffers,
    initialise,
    make_feed,
)
from lth.experiment import Experiment
from lth.store import Unit
from lth.sweep.handover import read_later
from lth.sweep.planning import keeps_weights, trainings_behind
from lth.sweep.setup import Setup
from lth.sweep.stages import blocks

FEW = 50
"""Examples that tell how long an evaluation takes, before more are evaluated."""


def time_a_step(
    setup: Setup, experiment: Experiment, data: DataSet, seconds: float = 1.0
) -> tuple[float, float, float]:
    """Seconds per seed of one training step, of one validation, and of the last evaluation, on one core of this CPU.

    Trains a cohort of the size that a core would for about `seconds`, two steps at least, and evaluates as much of the
    validation split as takes no longer; nothing is kept.
    """
    cpu = torch.device("cpu")
    count = min(blocks(setup.network, 4, cpu)[0].stop, 4)
    seeds = tuple(range(count))
    with exact_arithmetic(1, "float32"):
        dataset = experiment.dataset
        transform = data.transform(dataset.standardise, dataset.crop_padding, dataset.flip)
        feed = make_feed(data, seeds, dataset.validation, transform)
        held = feed.validation.shape[1]
        whole_validation = feed.validation
        feed = replace(feed, validation=whole_validation[:, :FEW])
        weights = initialise(setup.network, seeds)
        start = Start(weights, initial_buffers(setup.network, seeds), torch.ones_like(weights, dtype=torch.bool))
        recipe = replace(setup.recipe, evaluate_every=10**9, steps=10**9).not_watched_by("rewind_point")
        training = CohortTraining(setup.network, recipe, feed, start)
        training.advance(1)
        begun, last = time.perf_counter(), max(setup.recipe.steps, 2)
        while training.step == 1 or (time.perf_counter() - begun < seconds and training.step < last):
            training.advance(training.step + 1)
        step = (time.perf_counter() - begun) / (training.step - 1)
        del training
        program = choose_program(setup.network, recipe.objective, seeds, cpu, "float32")

        def evaluation_of(some: Feed) -> float:
            begun = time.perf_counter()
            evaluate(program, recipe.objective, weights, start.buffers, some, "validation")
            return (time.perf_counter() - begun) * held / some.validation.shape[1]

        evaluation = evaluation_of(feed)
        if evaluation < seconds:
            evaluation = evaluation_of(replace(feed, validation=whole_validation))
    examples = data.examples()
    whole = len(examples.train[TARGET]) - experiment.dataset.validation + 2 * len(examples.test[TARGET])
    return step / count, evaluation / count, evaluation / count * whole / experiment.dataset.validation


def steps_to_train(setup: Setup, experiment: Experiment, unit: Unit) -> int:
    """Optimizer steps of one seed's training in a unit."""
    recipe = setup.recipe_of(unit.arm, unit.level, trainings_behind(experiment, unit.level))
    return recipe.steps - setup.start_step(unit.arm, unit.level)


def entropy(density: float) -> float:
    """Bits a weight that a random mask of this density needs at least: the binary entropy."""
    if density in (0.0, 1.0):
        return 0.0
    return -density * math.log2(density) - (1 - density) * math.log2(1 - density)


def estimate_storage(setup: Setup, experiment: Experiment, trainings: int) -> float:
    """Bytes that `trainings` trainings land in the store: curves, masks near their entropy, checkpoints kept."""
    recipe, levels = setup.recipe, len(setup.counts)
    curve = 2 * (recipe.steps // recipe.evaluate_every + 2) * 14 + 1500
    full = sum(setup.counts[0].values())
    masks = (
        sum(1.1 * entropy(sum(counts.values()) / full) * setup.weights_total / 8 for counts in setup.counts) / levels
    )
    seeds = trainings / (1 + experiment.pruning.levels * len(experiment.draws()))
    kept_levels = sum(read_later(experiment, level) for level in range(experiment.pruning.levels + 1))
    if not keeps_weights(experiment):  # a level's weights go when the next is there
        kept_levels = min(kept_levels, 2)
    kept = (
        setup.network.layout.width
        * 4
        * (kept_levels + any(watcher.name == "rewind_point" for watcher in recipe.watchers))
    )
    return trainings * (curve + masks) + seeds * kept
