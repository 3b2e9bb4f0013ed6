"""How many seeds a unit holds, what part of a GPU it needs, and which sweeps are too large to be meant."""

from __future__ import annotations

from lth.errors import InvalidExperiment
from lth.experiment import Experiment
from lth.sweep.planning import planned_count

# Bytes that a unit's results may take while they pass between stages, that a stacked cohort's activations may take on a
# GPU, and the most seeds that a unit holds.
UNIT_BYTES = 2**30
STACK_BYTES = 8 * 2**30
LARGEST_COHORT = 256

# What CUDA takes of a GPU for every process; the part of its memory that is given out; the most processes on one.
CUDA_BYTES = 2**29
USED_OF_GPU = 0.9
MOST_SHARES = 16

LARGE_SWEEP = 100_000
"""A sweep of more trainings than this is more often a slip of the finger than a wish."""

WEIGHT_COPIES = 6
"""Floats a parameter: weights, gradient, two moments, early-stop weights, rewind point."""
ACTIVATION_COPIES = 3
"""Floats an activation: itself, its gradient, and what is in between."""


def choose_cohort_size(seeds: int, slots: int, width: int, activations: int = 0) -> int:
    """Seeds a unit: enough units to fill every slot, few enough for the workflow engine, small enough for memory.

    `width` is the floats of one seed's parameters, `activations` the floats that one seed's batch leaves behind in the
    forward pass where all seeds of a unit are stacked (a GPU).
    """
    by_memory = max(1, UNIT_BYTES // (width * 4 * WEIGHT_COPIES))
    if activations:
        by_memory = min(by_memory, max(1, STACK_BYTES // (activations * 4 * ACTIVATION_COPIES)))
    return max(1, min(-(-seeds // max(slots, 1)), by_memory, LARGEST_COHORT))


def bytes_on_gpu(seeds: int, width: int, activations: int, data: int) -> int:
    """About what a cohort needs of a GPU's memory, with `data` bytes of data set beside it."""
    return seeds * 4 * (width * WEIGHT_COPIES + activations * ACTIVATION_COPIES) + CUDA_BYTES + data


def shares_of_gpu(memory: int, needed: int, cores: int) -> int:
    """How many cohorts that need that many bytes each go onto a GPU of `memory` bytes with `cores` cores to feed it.

    At least one: a cohort that is too large is halved where it trains.
    """
    return max(1, min(int(memory * USED_OF_GPU) // max(needed, 1), cores, MOST_SHARES))


def refuse_slip(experiment: Experiment, seeds: tuple[int, ...], cohort_size: int | None, if_meant: str) -> None:
    """Raises InvalidExperiment for a LARGE_SWEEP; `if_meant` says what to do where that is meant."""
    trainings = planned_count(experiment, len(seeds))
    if trainings > LARGE_SWEEP:
        units = -(-len(seeds) // (cohort_size or LARGEST_COHORT)) * planned_count(experiment, 1)
        raise InvalidExperiment(
            f"{len(seeds):,} seeds are {trainings:,} trainings in at least {units:,} units; {if_meant} if that is meant"
        )
