"""The ways of rewinding, made setup: to init, to step k, learning-rate rewinding, fine-tuning, none.

Whatever the way, the data order of a seed is that of its dense training from the same step on, and the optimizer's
moments start empty, as in the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from lth.engine.optimizers import Optimizer
from lth.engine.recipe import Recipe, learning_rate
from lth.engine.schedules import Constant
from lth.experiment import FineTune, NoRewinding, Rewinding, RewindLearningRate, RewindToStep, to_steps


@dataclass(frozen=True)
class Retraining:
    """What a pruned network is trained from, and how.

    `source`: the seed's initial weights, its weights at step k of the dense training, or the trained weights that its
    mask was cut from. `step`: the step at which training resumes, of `recipe`.
    """

    source: Literal["initial", "step", "trained"]
    step: int
    recipe: Recipe


def resolve_rewinding(rewinding: Rewinding, recipe: Recipe, per_epoch: int) -> Retraining:
    """The retraining that a way of rewinding stands for; `recipe` is that of the dense training."""
    again = recipe.not_watched_by("rewind_point")
    if isinstance(rewinding, RewindToStep):
        return Retraining("step", to_steps(rewinding.step, per_epoch), again)
    if isinstance(rewinding, RewindLearningRate):
        return Retraining("trained", 0, again)
    if isinstance(rewinding, FineTune):
        steps = recipe.steps if rewinding.duration is None else to_steps(rewinding.duration, per_epoch)
        return Retraining(
            "trained",
            0,
            replace(
                again,
                steps=steps,
                schedule=Constant(),
                optimizer=_at_rate(recipe, recipe.steps - 1),
                evaluate_every=min(recipe.evaluate_every, steps),
            ),
        )
    if isinstance(rewinding, NoRewinding):
        return Retraining("trained", recipe.steps, again)
    return Retraining("initial", 0, again)


def _at_rate(recipe: Recipe, step: int) -> Optimizer:
    """The optimizer with the learning rate that the schedule reached at `step`."""
    at_rate: Optimizer = replace(recipe.optimizer, learning_rate=learning_rate(recipe, step))  # type: ignore[type-var]
    return at_rate


def stretched(recipe: Recipe, steps: int) -> Recipe:
    """The same training over `steps`: milestones move with it, the warm-up stays, a cosine spans the whole."""
    return replace(recipe, steps=steps, schedule=recipe.schedule.stretched(recipe.steps, steps))
