"""What a store's records say of the starts of a sweep, and so with which seeds each comparison was first looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lth.errors import LthError
from lth.seeds import parse_seeds


@dataclass(frozen=True)
class SweepStart:
    """One start of a sweep: its seeds, its deepest level, its arms (None: all), and its place among the starts."""

    seeds: frozenset[int]
    levels: int
    arms: frozenset[str] | None
    place: int

    def holds(self, level: int, arms: Iterable[str]) -> bool:
        """Whether it trains these arms at that level."""
        return level <= self.levels and (self.arms is None or self.arms.issuperset(arms))


UNKNOWN = SweepStart(frozenset(), 1_000_000, None, -1)
"""Stands first where a record cannot be read: nothing then is known to have been looked at but once."""


def starts_of(records: Sequence[Mapping[str, Any]]) -> list[SweepStart]:
    """The starts that the records of an experiment's sweeps tell of; those of older versions have place 0."""
    return [_start(record) for record in records]


def _start(record: Mapping[str, Any]) -> SweepStart:
    try:
        seeds, arms = (
            frozenset(parse_seeds(record["seeds"])),
            frozenset(arm.partition(":")[0] for arm in record["arms"]),
        )
        return SweepStart(seeds, int(record["levels"]), arms, int(record.get("place", 0)))
    except (KeyError, TypeError, ValueError, AttributeError, LthError):
        return UNKNOWN


def first_seeds(starts: Sequence[SweepStart], level: int, arms: Iterable[str]) -> frozenset[int] | None:
    """The seeds with which `arms` were first trained at `level`; None if nothing says so, or starts of one place differ
    in them."""
    able = [start for start in starts if start.holds(level, list(arms))]
    first = min((start.place for start in able), default=0)
    seeds = {start.seeds for start in able if start.place == first}
    return seeds.pop() if len(seeds) == 1 else None
