"""A duration as a field of an experiment; what it means is in `lth.durations`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

from lth.durations import PATTERN, comparable, to_steps

__all__ = ["PATTERN", "Duration", "comparable", "to_steps"]


def _duration(value: object) -> object:
    text = str(value).strip()
    if not re.fullmatch(r"[0-9]{1,12}(it|ep)", text):
        raise ValueError(f"{value!r} is not a duration; write steps as '50000it' or epochs as '160ep'")
    return f"{int(text[:-2])}{text[-2:]}"


Duration = Annotated[str, BeforeValidator(_duration), Field(pattern=PATTERN, examples=["50000it", "160ep"])]
