"""What a running sweep tells those who watch it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from lth.store import Unit


@dataclass(frozen=True)
class Planned:
    """The sweep is about to begin: how many trainings are planned, and how many of them are committed already."""

    trainings: int
    committed: int
    units: int
    slots: int
    seed_steps: int
    """Steps to train in this run, over all seeds."""
    resumed: int = 0
    """Units of which trainings were cut short, and go on from where they were saved."""


@dataclass(frozen=True)
class UnitChanged:
    """A unit was started, is committed, or failed for good."""

    unit: Unit
    what: Literal["started", "committed", "failed"]
    detail: str = ""


@dataclass(frozen=True)
class Steps:
    """Seed-steps trained so far in this run, units in flight included."""

    trained: int


@dataclass(frozen=True)
class Phase:
    """A sentence about what is happening before units run."""

    text: str


@dataclass(frozen=True)
class Notice:
    """A sentence that a person should read, now."""

    text: str


Event = Planned | UnitChanged | Steps | Phase | Notice
Listener = Callable[[Event], None]
LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


def emit(event: Event) -> None:
    """Pass an event to whoever listens to this sweep."""
    listener = LISTENER.get()
    if listener is not None:
        listener(event)
