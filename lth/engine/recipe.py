"""How to train, as plain numbers of steps: what the engine needs of an experiment, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lth.engine.optimizers import Optimizer
from lth.engine.schedules import Schedule, rate_at

Precision = Literal["float32", "tf32", "bf16"]


@dataclass(frozen=True)
class Recipe:
    """One training: optimizer, schedule, batch size, steps, evaluation interval, precision, augmentation.

    `rewind_step` asks the training to keep the weights of that step for late rewinding, `movement` to accumulate
    -sum w dL/dw. `copy` tells trainings of one seed apart by their data order and augmentation; 0 is the seed's own.
    """

    optimizer: Optimizer
    schedule: Schedule
    batch_size: int
    steps: int
    evaluate_every: int
    precision: Precision = "float32"
    crop_padding: int = 0
    flip: bool = False
    rewind_step: int | None = None
    movement: bool = False
    copy: int = 0


def learning_rate(recipe: Recipe, step: int) -> float:
    """The learning rate of step `step` (counted from 0)."""
    return rate_at(recipe.schedule, recipe.optimizer.learning_rate, step, recipe.steps)
