"""The registry of rewinds: which weights a pruned network starts from again, and how it is trained.

Whatever the rewind, the data order of a seed is that of its dense training from the same step on, and the optimizer's
moments start empty, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, TypeVar, get_args

from lth.engine.recipe import Recipe
from lth.errors import InvalidExperiment
from lth.registry import Registry

Source = Literal["initial", "step", "trained"]


@dataclass(frozen=True)
class Retraining:
    """How a pruned network is trained: from `step` on to the end of `recipe`."""

    step: int
    recipe: Recipe


class Rewind(Protocol):
    """The settings of a rewind, in steps (see `lth.settings`), and what follows from them.

    Settings that do not go together are refused by two static methods, both optional, which are given the experiment's
    sections (durations are texts there) and raise ValueError: `check(section)`, of its own settings, and
    `check_experiment(section, experiment)`, of its settings beside all others.
    """

    source: ClassVar[Source]
    """Which weights a ticket starts from: the seed's initial ones; those that the dense training had at `kept_step`; or
    the trained ones that its mask was cut from. Trained ones are read by all arms of a level and kept for them."""
    trains: ClassVar[bool]
    """Whether the pruned network is trained at all: else there is nothing that a criterion could watch."""

    @property
    def kept_step(self) -> int | None:
        """The step whose weights the dense training keeps; with source `step` there is one, else none."""

    def retraining(self, recipe: Recipe) -> Retraining:
        """How a ticket is trained; `recipe` is that of the dense training."""


REWINDS: Registry[type] = Registry("rewind", Rewind)
Class = TypeVar("Class", bound=type)


def register_rewind(name: str, description: str) -> Callable[[Class], Class]:
    """Decorator: make a rewind, a frozen dataclass of settings with what `Rewind` says, known by `name`.

        @register_rewind("longer", "The initial weights, trained for longer.")
        @dataclass(frozen=True)
        class Longer:
            source, trains, kept_step = "initial", True, None
            duration: Steps = setting(description="How long.")

            def retraining(self, recipe):
                return Retraining(0, stretched(recipe, self.duration))

    Raises InvalidExperiment for a source that there is not, or if another rewind has that name already.
    """

    def register(rewind: Class) -> Class:
        source: Any = getattr(rewind, "source", None)
        if source not in get_args(Source):
            raise InvalidExperiment(f"rewind {name!r} has the source {source!r}; it is one of {get_args(Source)}")
        REWINDS.add(name, rewind, description, rewind)
        return rewind

    return register


def rewind_of(kind: str) -> type[Rewind]:
    """The rewind known by that name, before its settings are in steps."""
    rewind: type[Rewind] = REWINDS[kind]
    return rewind


def stretched(recipe: Recipe, steps: int) -> Recipe:
    """The same training over `steps`: milestones move with it, the warm-up stays, a cosine spans the whole."""
    return replace(recipe, steps=steps, schedule=recipe.schedule.stretched(recipe.steps, steps))
