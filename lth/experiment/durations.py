"""Lengths of training: `50000it` (optimizer steps) or `160ep` (passes over the training split)."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

PATTERN = r"^(0|[1-9][0-9]{0,11})(it|ep)$"


def _duration(value: object) -> object:
    text = str(value).strip()
    if not re.fullmatch(r"[0-9]{1,12}(it|ep)", text):
        raise ValueError(f"{value!r} is not a duration; write steps as '50000it' or epochs as '160ep'")
    return f"{int(text[:-2])}{text[-2:]}"


Duration = Annotated[str, BeforeValidator(_duration), Field(pattern=PATTERN, examples=["50000it", "160ep"])]


def to_steps(duration: str, steps_per_epoch: int) -> int:
    """Optimizer steps in a duration, where one epoch has `steps_per_epoch` full batches."""
    count = int(duration[:-2])
    return count if duration.endswith("it") else count * steps_per_epoch


def comparable(first: str, second: str) -> bool:
    """Whether two durations can be compared without knowing the length of an epoch."""
    return first[-2:] == second[-2:] or int(first[:-2]) == 0 or int(second[:-2]) == 0
