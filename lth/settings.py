"""Settings of a part that an experiment chooses by name: a frozen dataclass that stands beside the code that it sets.

    @register_optimizer("sgd", "Stochastic gradient descent with momentum.")
    @dataclass(frozen=True)
    class SGD:
        learning_rate: float = setting(0.1, "Step size before the schedule's factor.", gt=0, le=100)

The same fields are the experiment's, with these descriptions and bounds (`lth.experiment.one_of`); here they are plain
Python, so that the engine runs where nothing but torch is installed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

Steps = Annotated[int, "steps"]
"""Optimizer steps; in an experiment a duration such as `500it` or `3ep`."""

REQUIRED = dataclasses.MISSING
"""The default of a setting that has none."""


def setting(
    default: Any = REQUIRED,
    description: str = "",
    *,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
) -> Any:
    """A field of a part's settings: its default, what it does, and its bounds. `Steps` have defaults in steps."""
    bounds = {name: bound for name, bound in (("gt", gt), ("ge", ge), ("lt", lt), ("le", le)) if bound is not None}
    # A keyword-only field may be required whatever stands before it.
    return dataclasses.field(default=default, metadata={"description": description, "bounds": bounds}, kw_only=True)


def setting_types(part: type) -> dict[str, Any]:
    """The type of each setting of a part, `Steps` told from other numbers."""
    hints = get_type_hints(part, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(part) if field.init}


def is_steps(kind: Any) -> bool:
    """Whether a type is `Steps`."""
    return get_origin(kind) is Annotated and "steps" in get_args(kind)[1:]


def in_steps(value: Any, kind: Any, to_steps: Callable[[str], int]) -> Any:
    """A setting of type `kind` as an experiment says it, its durations turned into steps."""
    if value is None or is_steps(kind):
        return None if value is None else to_steps(value)
    if isinstance(value, list | tuple):
        return tuple(in_steps(each, get_args(kind)[0], to_steps) for each in value)
    inner = [each for each in get_args(kind) if is_steps(each)]
    return to_steps(value) if inner else value
