"""Learning-rate schedules: what the full rate becomes at a step, each with its settings beside it.

All of them begin with a linear warm-up, which reaches the full rate at its last step. Milestones and periods count from
the start of the training; decays span what the warm-up leaves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol, TypeVar

from lth.durations import comparable
from lth.registry import Registry
from lth.settings import Steps, setting

WARMUP = "Linear rise from 0 to the full learning rate over this duration."


class Schedule(Protocol):
    """The settings of a schedule, in steps, and its arithmetic.

    Settings are fields (see `lth.settings`), `warmup` among them. A rate depends on nothing but the step, and the
    warm-up is multiplied in by `rate_at`.
    """

    @property
    def warmup(self) -> int:
        """Steps of the linear rise to the full rate."""

    def rate(self, full: float, step: int, steps: int) -> float:
        """The learning rate of step `step` (counted from 0) of `steps`, warm-up left aside."""

    def stretched(self, steps: int, longer: int) -> Schedule:
        """The schedule of a training of `longer` steps that has the shape of this one over `steps`."""


SCHEDULES: Registry[type] = Registry("schedule", Schedule)
Class = TypeVar("Class", bound=type)


def register_schedule(name: str, description: str) -> Callable[[Class], Class]:
    """Decorator: make a schedule, a frozen dataclass of settings with the methods of `Schedule`, known by `name`."""

    def register(schedule: Class) -> Class:
        SCHEDULES.add(name, schedule, description, schedule)
        return schedule

    return register


def rate_at(schedule: Schedule, full: float, step: int, steps: int) -> float:
    """The learning rate of step `step` (counted from 0) of `steps`, warm-up included."""
    rate = schedule.rate(full, step, steps)
    if step < schedule.warmup:
        rate *= (step + 1) / schedule.warmup
    return rate


@register_schedule("constant", "The same learning rate throughout.")
@dataclass(frozen=True)
class Constant:
    """The same learning rate throughout."""

    warmup: Steps = setting(0, WARMUP)

    def rate(self, full: float, step: int, steps: int) -> float:
        return full

    def stretched(self, steps: int, longer: int) -> Constant:
        return self


@register_schedule("step", "Drops at milestones.")
@dataclass(frozen=True)
class StepDecay:
    """A learning rate that drops at milestones."""

    warmup: Steps = setting(0, WARMUP)
    milestones: tuple[Steps, ...] = setting(description="When the rate drops, counted from the start, increasing.")
    factor: float = setting(0.1, "What the rate is multiplied with at each milestone.", gt=0, lt=1)

    @staticmethod
    def check(section: Any) -> None:
        if not section.milestones:
            raise ValueError("a step schedule needs at least one milestone, e.g. [20000it, 25000it]")
        for earlier, later in pairwise(section.milestones):
            if comparable(earlier, later) and int(earlier[:-2]) >= int(later[:-2]):
                raise ValueError(f"milestones must increase, but {earlier} comes before {later}")

    def rate(self, full: float, step: int, steps: int) -> float:
        return full * self.factor ** sum(step >= milestone for milestone in self.milestones)

    def stretched(self, steps: int, longer: int) -> StepDecay:
        return replace(self, milestones=tuple(round(step * longer / steps) for step in self.milestones))


@register_schedule("cosine", "Half a cosine from the full rate to 0 at the end.")
@dataclass(frozen=True)
class Cosine:
    """A learning rate that falls to zero along half a cosine (Loshchilov & Hutter 2017, one period)."""

    warmup: Steps = setting(0, WARMUP)

    def rate(self, full: float, step: int, steps: int) -> float:
        return full * _half_cosine(step - self.warmup, steps - self.warmup)

    def stretched(self, steps: int, longer: int) -> Cosine:
        return self


@register_schedule("cosine_restarts", "Half cosines to 0, each followed by the full rate again (SGDR).")
@dataclass(frozen=True)
class CosineRestarts:
    """Cosine decay with warm restarts (Loshchilov & Hutter 2017), every period `factor` times as long as the last."""

    warmup: Steps = setting(0, WARMUP)
    period: Steps = setting(description="Length of the first period.")
    factor: float = setting(1.0, "How much longer each period is than the one before.", ge=1, le=10)

    @staticmethod
    def check(section: Any) -> None:
        if int(section.period[:-2]) == 0:
            raise ValueError(f"period must be at least one step; got {section.period}")

    def rate(self, full: float, step: int, steps: int) -> float:
        into, period = max(step - self.warmup, 0), float(max(self.period, 1))
        while into >= period:
            into, period = into - round(period), period * self.factor
        return full * _half_cosine(into, round(period))

    def stretched(self, steps: int, longer: int) -> CosineRestarts:
        return replace(self, period=max(round(self.period * longer / steps), 1))


@register_schedule("linear", "A straight line from the full rate down to a part of it at the end.")
@dataclass(frozen=True)
class Linear:
    """A learning rate that falls in a straight line from the full one to `end` times it."""

    warmup: Steps = setting(0, WARMUP)
    end: float = setting(0.0, "Part of the full rate that is left at the end.", ge=0, le=1)

    def rate(self, full: float, step: int, steps: int) -> float:
        done = min(max(step - self.warmup, 0) / max(steps - self.warmup, 1), 1.0)
        return full * (1 - (1 - self.end) * done)

    def stretched(self, steps: int, longer: int) -> Linear:
        return self


def _half_cosine(step: int, span: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(max(step, 0) / max(span, 1), 1.0)))
