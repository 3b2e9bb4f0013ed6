"""How to train, as plain numbers of steps: what the engine needs of an experiment, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from lth.engine.optimizers import Optimizer
from lth.engine.schedules import Schedule, rate_at
from lth.engine.watchers import Watcher
from lth.objectives import Classification, Objective

Precision = Literal["float32", "tf32", "bf16"]


@dataclass(frozen=True)
class Recipe:
    """One training: objective, optimizer, schedule, batch size, steps, evaluation interval, precision.

    `clip_norm` is the most that the Euclidean norm of a seed's gradient may be (Pascanu et al. 2013); longer ones are
    shortened to it. `watchers` see the training beside early stop, which always does. `copy` tells trainings of one
    seed apart by their data order and augmentation; 0 is the seed's own.
    """

    optimizer: Optimizer
    schedule: Schedule
    batch_size: int
    steps: int
    evaluate_every: int
    precision: Precision = "float32"
    objective: Objective = Classification()
    clip_norm: float | None = None
    watchers: tuple[Watcher, ...] = ()
    copy: int = 0

    def watched_by(self, *watchers: Watcher) -> Recipe:
        """The same training seen by these as well, each name once."""
        others = tuple(known for known in self.watchers if known.name not in {each.name for each in watchers})
        return replace(self, watchers=(*others, *watchers))

    def not_watched_by(self, *names: str) -> Recipe:
        """The same training, not seen by the watchers of these names."""
        return replace(self, watchers=tuple(each for each in self.watchers if each.name not in names))


def learning_rate(recipe: Recipe, step: int) -> float:
    """The learning rate of step `step` (counted from 0)."""
    return rate_at(recipe.schedule, recipe.optimizer.learning_rate, step, recipe.steps)
