"""How much the masks of an experiment overlap: across seeds, arms or levels, as far as they are committed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import pyarrow as pa
import torch

from lth.analysis.overlap import overlap_rows, overlaps
from lth.errors import LthError
from lth.store import Store, Unit
from lth.store.analysis_schemas import OVERLAP

Between = Literal["seeds", "arms", "levels"]

WEIGHTS_AT_ONCE = 2**28
"""Weights of all masks of a block of seeds, a byte each."""
Place = tuple[str, int, int]  # arm, draw, level


def compare(
    store: Store,
    experiment_id: str,
    between: Between,
    levels: Sequence[int] | None = None,
    arms: Sequence[str] | None = None,
) -> pa.Table:
    """The rows of OVERLAP: every pair of seeds of an arm and level; of arms at a level; or of levels of an arm.

    Level 0, where everything is kept, is left out unless it is asked for. Raises LthError for an arm that is not
    committed and if nothing is left to compare.
    """
    where: dict[Place, dict[int, str]] = {}
    committed = store.committed(experiment_id)
    known = sorted({arm for arm, *_ in committed.where})
    if known and (unknown := [arm for arm in arms or () if arm not in known]):
        raise LthError(f"{experiment_id} has no committed arm {unknown[0]!r} in {store.url}; it has {', '.join(known)}")
    masked = {
        (row["arm"], row["draw"], row["level"], row["seed"])
        for row in committed.rows.select(["arm", "draw", "level", "seed", "mask_sha256"]).to_pylist()
        if row["mask_sha256"] is not None
    }
    for (arm, draw, level, seed), unit in sorted(committed.where.items()):
        wanted = level in levels if levels is not None else level > 0
        if wanted and (arms is None or arm in arms) and (arm, draw, level, seed) in masked:
            where.setdefault((arm, draw, level), {})[seed] = unit
    weights = max(committed.rows["weights_total"].to_pylist(), default=1)
    tables = [OVERLAP.empty_table()]
    for a, b in _pairs(list(where), between):
        tables += _compared(store, experiment_id, a, b, where, weights)
    rows = pa.concat_tables(tables)
    if not rows.num_rows:
        raise LthError(
            f"{experiment_id} has no two masks to compare between {between} in {store.url}; commit more "
            "of it, or choose other levels or arms"
        )
    return rows


def _pairs(places: list[Place], between: Between) -> list[tuple[Place, Place]]:
    if between == "seeds":
        return [(place, place) for place in places]
    alike = slice(2, 3) if between == "arms" else slice(0, 2)  # of (arm, draw, level)
    return [(a, b) for a, b in combinations(places, 2) if a[alike] == b[alike]]


def _compared(
    store: Store, experiment_id: str, a: Place, b: Place, where: dict[Place, dict[int, str]], weights: int
) -> list[pa.Table]:
    """Blocks of seeds against blocks of seeds, or, where every seed is compared with itself, one block at a time."""

    def masks(place: Place, seeds: tuple[int, ...]) -> dict[str, torch.Tensor]:
        read = store.read_masks(experiment_id, {seed: where[place][seed] for seed in seeds})
        return {name: torch.from_numpy(mask) for name, mask in read.items()}

    blocks_a = _blocks(sorted(where[a] if a == b else where[a].keys() & where[b].keys()), weights)
    tables = []
    for number, seeds_a in enumerate(blocks_a):
        of_a = masks(a, seeds_a)
        for seeds_b in blocks_a[number:] if a == b else [seeds_a]:
            of_b = of_a if (a, seeds_a) == (b, seeds_b) else masks(b, seeds_b)
            tables.append(overlap_rows(overlaps(of_a, of_b), experiment_id, Unit(*a, seeds_a), Unit(*b, seeds_b)))
    return tables


def _blocks(seeds: list[int], weights: int) -> list[tuple[int, ...]]:
    size = max(1, WEIGHTS_AT_ONCE // weights)
    return [tuple(seeds[start : start + size]) for start in range(0, len(seeds), size)]
