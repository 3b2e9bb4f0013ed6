"""The registry of mask sources: which weights masks are cut from, and what must be trained first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeVar

import torch

from lth.registry import Registry

Masks = dict[str, torch.Tensor]
"""bool [seeds, *shape] of every prunable tensor, by name."""


@dataclass(frozen=True)
class Scorable:
    """A cohort's weights that masks can be cut from: rows [seeds, width], buffers [seeds, *shape] by name, and what
    watchers of their training gathered, rows by the watcher's name."""

    weights: torch.Tensor
    buffers: Mapping[str, torch.Tensor]
    watched: Mapping[str, torch.Tensor] = field(default_factory=dict)


class Pruner(Protocol):
    """What a mask source is lent for one unit of tickets."""

    def trained(self) -> Scorable:
        """The trained weights of the parent level, trained again where they are gone."""

    def initial(self) -> Scorable:
        """The initial weights."""

    def cut(self, weights: Scorable) -> Masks:
        """The parent level's masks (of the dense network, where there is none) without what the experiment's criterion
        scores lowest, down to the counts of the unit's level."""


class MaskSource(Protocol):
    """Which weights the masks of tickets are cut from, and all that follows from it: what `pruning.when` names.

    A frozen dataclass with one field, `iterative`: whether a level is cut from the last one, or straight from the
    dense network. Levels are those of tickets; controls take the mask of the ticket of their level.
    """

    scores_trained: ClassVar[bool]
    """Whether masks are cut from the trained weights of the parent level, which diverged seeds do not have. If not,
    tickets start from the initial weights, and units are not removed so."""

    @property
    def iterative(self) -> bool:
        """Whether each level is cut from the last one."""

    def parent_level(self, level: int) -> int | None:
        """The level whose ticket must be committed before the mask of that level is cut; None if none must."""

    def trainings_behind(self, level: int) -> int:
        """How many trainings, its own included, lead to a ticket of that level."""

    def read_later(self, level: int) -> bool:
        """Whether a deeper level reads the trained weights of this one."""

    def masks(self, pruner: Pruner) -> Masks:
        """The masks of a unit of tickets."""


MASK_SOURCES: Registry[Callable[[bool], MaskSource]] = Registry("mask source", MaskSource)
Class = TypeVar("Class", bound=Callable[[bool], MaskSource])


def register_mask_source(name: str, description: str) -> Callable[[Class], Class]:
    """Decorator: make a mask source, a class with what `MaskSource` says, known by `name`.

        @register_mask_source("halfway", "Halfway between the initial and the trained weights.")
        @dataclass(frozen=True)
        class Halfway(AfterTraining):
            def masks(self, pruner):
                trained, initial = pruner.trained(), pruner.initial()
                return pruner.cut(replace(trained, weights=(trained.weights + initial.weights) / 2))

    Raises InvalidExperiment if another mask source has that name already.
    """

    def register(source: Class) -> Class:
        MASK_SOURCES.add(name, source, description, source)
        return source

    return register


def scores_trained(name: str) -> bool:
    """Whether the mask source of that name cuts masks from trained weights."""
    return MASK_SOURCES[name](True).scores_trained
