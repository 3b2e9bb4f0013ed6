"""What a stage hands on, and where its time went."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Clock:
    """Seconds spent by purpose: training, evaluation, storage, pruning."""

    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, purpose: str, spent: float) -> None:
        self.seconds[purpose] = self.seconds.get(purpose, 0.0) + spent

    @contextmanager
    def time(self, purpose: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.add(purpose, time.perf_counter() - begun)


@dataclass(frozen=True)
class Stage(Generic[T]):
    """What a stage hands on, masks, a ticket or a finished training, and its seconds by purpose."""

    result: T
    seconds: dict[str, float]
