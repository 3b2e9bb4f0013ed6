"""How to train, as plain numbers of steps: what the engine needs of an experiment, and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Precision = Literal["float32", "tf32", "bf16"]


@dataclass(frozen=True)
class Optimizer:
    """Settings of Adam or SGD; a field that the kind does not use is left at its default."""

    kind: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 1.2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """Learning-rate schedule, in steps."""

    kind: Literal["constant", "step", "cosine"] = "constant"
    warmup: int = 0
    milestones: tuple[int, ...] = ()
    factor: float = 0.1


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
    """The learning rate of step `step` (counted from 0).

    Warm-up rises linearly and reaches the full rate at the last warm-up step. Milestones count from the start of the
    training, warm-up included. The cosine (Loshchilov & Hutter 2017, one period) spans the steps after the warm-up.
    """
    schedule = recipe.schedule
    full = recipe.optimizer.learning_rate
    if schedule.kind == "step":
        full *= schedule.factor ** sum(step >= milestone for milestone in schedule.milestones)
    elif schedule.kind == "cosine":
        span = max(recipe.steps - schedule.warmup, 1)
        full *= 0.5 * (1 + math.cos(math.pi * min(max(step - schedule.warmup, 0) / span, 1.0)))
    if step < schedule.warmup:
        full *= (step + 1) / schedule.warmup
    return full
