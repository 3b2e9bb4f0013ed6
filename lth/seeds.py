"""Lists of seeds as people write them: `0-4`, `0-99`, `3,7,10-12`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from lth.errors import InvalidExperiment

LARGEST_SEED = 2**31 - 1
MOST_SEEDS = 10_000_000


def parse_seeds(text: str) -> tuple[int, ...]:
    """The seeds in `text`, increasing. Refuses negative, reversed, repeated and unreadable entries by name."""
    seeds: list[int] = []
    for part in (part.strip() for part in text.split(",")):
        match = re.fullmatch(r"([0-9]{1,10})(?:-([0-9]{1,10}))?", part)
        if not match:
            raise InvalidExperiment(f"seeds {part!r} cannot be read; write seeds as 0-4 or 0,3,10-12 (none below 0)")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InvalidExperiment(f"seeds {part!r} run backwards; write {last}-{first}")
        if last > LARGEST_SEED:
            raise InvalidExperiment(f"seed {last} is too large; the largest is {LARGEST_SEED}")
        count = len(seeds) + last - first + 1
        if count > MOST_SEEDS:
            raise InvalidExperiment(f"seeds up to {part!r} are {count:,} seeds; at most {MOST_SEEDS:,} a sweep")
        seeds.extend(range(first, last + 1))
    ordered = sorted(seeds)
    for one, other in pairwise(ordered):
        if one == other:
            raise InvalidExperiment(f"seed {one} appears twice in {text!r}; name every seed once")
    return tuple(ordered)


def format_seeds(seeds: Sequence[int]) -> str:
    """The shortest such list: (0, 1, 2, 7) is `0-2,7`."""
    parts: list[str] = []
    ordered = sorted(seeds)
    start = 0
    for position, seed in enumerate(ordered):
        if position + 1 == len(ordered) or ordered[position + 1] != seed + 1:
            first = ordered[start]
            parts.append(str(first) if first == seed else f"{first}-{seed}")
            start = position + 1
    return ",".join(parts)
