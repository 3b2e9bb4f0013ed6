"""Where the wall time of a sweep went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Seconds:
    """Wall time, and what stages spent by purpose; that is divided by the slots that ran them side by side."""

    wall: float = 0.0
    start: float = 0.0
    slots: int = 1
    stages: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, spent: Mapping[str, float]) -> None:
        """Add the seconds of a stage or unit."""
        for purpose, seconds in spent.items():
            self.stages[purpose] += seconds

    def split(self) -> dict[str, float]:
        """Seconds by purpose; `orchestration` is what is left: waiting, scheduling, handing over."""
        parts = {name: spent / self.slots for name, spent in self.stages.items()}
        rest = max(self.wall - self.start - sum(parts.values()), 0.0)
        return {"start": self.start, **parts, "orchestration": rest, "wall": self.wall}
