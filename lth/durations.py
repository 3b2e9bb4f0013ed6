"""Lengths of training as texts: `50000it` (optimizer steps) or `160ep` (passes over the training split)."""

from __future__ import annotations

PATTERN = r"^(0|[1-9][0-9]{0,11})(it|ep)$"


def to_steps(duration: str, steps_per_epoch: int) -> int:
    """Optimizer steps in a duration, where one epoch has `steps_per_epoch` full batches."""
    count = int(duration[:-2])
    return count if duration.endswith("it") else count * steps_per_epoch


def comparable(first: str, second: str) -> bool:
    """Whether two durations can be compared without knowing the length of an epoch."""
    return first[-2:] == second[-2:] or int(first[:-2]) == 0 or int(second[:-2]) == 0
