"""How alike masks are: the Jaccard index of what they keep, against what chance alone gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from lth.errors import LthError
from lth.store.analysis_schemas import OVERLAP
from lth.store.unit import Unit

WHOLE_NETWORK = ""
"""What stands for all tensors together where a table names a tensor."""

_FLOATS_AT_ONCE = 2**24
"""Weights of all masks widened to float32 at a time: 64 MiB. Counts up to it are exact in float32, too."""


@dataclass(frozen=True)
class Agreement:
    """A masks against B masks over the same weights: counts int64, ratios float64 (nan where both masks are empty)."""

    remaining_a: NDArray[np.int64]
    """Weights that each mask a keeps, [A]."""
    remaining_b: NDArray[np.int64]
    """Weights that each mask b keeps, [B]."""
    intersection: NDArray[np.int64]
    """Weights that both keep, [A, B]."""
    union: NDArray[np.int64]
    """Weights that at least one keeps, [A, B]."""
    jaccard: NDArray[np.float64]
    """intersection / union (Jaccard 1901), [A, B]."""
    chance: NDArray[np.float64]
    """The Jaccard index expected of random masks, [A, B]: see `overlaps`."""


@dataclass(frozen=True)
class Overlap:
    """`Agreement` of every tensor, and of the whole network, whose counts are sums over its tensors."""

    tensors: dict[str, Agreement]
    network: Agreement


def overlaps(masks_a: Mapping[str, torch.Tensor], masks_b: Mapping[str, torch.Tensor]) -> Overlap:
    """Every mask of a against every mask of b: bool [A, *shape] and [B, *shape] per tensor.

    Chance is that of independent masks, uniform among those with the same counts in every tensor. Two that keep a and
    b of n weights share ab/n on average (hypergeometric), so their union has a + b - ab/n; chance is the ratio of
    these two expectations, each summed over the tensors for the whole network. It is not quite the expectation of the
    ratio, which is never smaller (Jensen: x / (a + b - x) is convex in x) and in one tensor larger by a fraction of
    about 1/(a + b) at most (second-order expansion; 2/(a + b) for masks of one weight): 0.05% for 1,000 weights each.

    Memory is bounded whatever the number of weights. Raises `LthError` for masks that are not boolean or whose tensors
    or shapes differ.
    """
    _check(masks_a, masks_b)
    tensors: dict[str, Agreement] = {}
    shared: NDArray[np.float64] = np.zeros(())
    for name, a in masks_a.items():
        flat_a, flat_b = a.flatten(1), masks_b[name].flatten(1)
        kept_a, kept_b, intersection = _counts(flat_a, flat_b)
        shared_here = np.outer(kept_a, kept_b) / flat_a.shape[1]
        tensors[name] = _agreement(kept_a, kept_b, intersection, shared_here)
        shared = shared + shared_here
    every = list(tensors.values())
    network = _agreement(
        np.sum([one.remaining_a for one in every], axis=0),
        np.sum([one.remaining_b for one in every], axis=0),
        np.sum([one.intersection for one in every], axis=0),
        shared,
    )
    return Overlap(tensors, network)


def overlap_rows(overlap: Overlap, experiment_id: str, unit_a: Unit, unit_b: Unit) -> pa.Table:
    """The rows of OVERLAP for the masks of two units, in the order of their seeds, as given to `overlaps`.

    The units decide what is compared. Of the same arm, draw and level: every pair of seeds once (seed_a < seed_b), also
    when the pairs are spread over several calls. Of two arms or draws at one level, or of two levels: every seed with
    itself. Raises `LthError` for units that differ in arm and level both, and for arrays of another size.
    """
    between = _between(unit_a, unit_b)
    seeds_a, seeds_b = np.array(unit_a.seeds), np.array(unit_b.seeds)
    size = overlap.network.intersection.shape
    if size != (len(seeds_a), len(seeds_b)):
        raise LthError(
            f"the overlap is of {size[0]} by {size[1]} masks, but the units have {len(seeds_a)} and "
            f"{len(seeds_b)} seeds: pass the units whose masks were compared"
        )
    pairs = np.less if between == "seeds" else np.equal
    rows, columns = np.nonzero(pairs.outer(seeds_a, seeds_b))
    count = len(rows)
    same = {
        "experiment_id": experiment_id,
        "between": between,
        "arm_a": unit_a.arm,
        "draw_a": unit_a.draw,
        "level_a": unit_a.level,
        "arm_b": unit_b.arm,
        "draw_b": unit_b.draw,
        "level_b": unit_b.level,
    }
    tables = []
    for tensor, agreement in {**overlap.tensors, WHOLE_NETWORK: overlap.network}.items():
        measured = {
            "seed_a": seeds_a[rows],
            "seed_b": seeds_b[columns],
            "remaining_a": agreement.remaining_a[rows],
            "remaining_b": agreement.remaining_b[columns],
            "intersection": agreement.intersection[rows, columns],
            "union": agreement.union[rows, columns],
            "jaccard": agreement.jaccard[rows, columns],
            "chance": agreement.chance[rows, columns],
        }
        arrays = {name: pa.repeat(value, count) for name, value in {**same, "tensor": tensor}.items()}
        # from_pandas: nan becomes null
        arrays.update({name: pa.array(values, from_pandas=True) for name, values in measured.items()})
        tables.append(pa.table([arrays[field.name].cast(field.type) for field in OVERLAP], schema=OVERLAP))
    return pa.concat_tables(tables).combine_chunks()


def _counts(a: torch.Tensor, b: torch.Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Weights that masks a keep [A], masks b keep [B] and both keep [A, B], of bool [A, n] and [B, n].

    A matrix product over some of the n weights at a time; the sums of bools would be taken over a copy in int64.
    """
    counts = [torch.zeros(shape, dtype=torch.int64, device=a.device) for shape in (len(a), len(b), (len(a), len(b)))]
    some = max(1, _FLOATS_AT_ONCE // (len(a) + len(b)))
    for start in range(0, a.shape[1], some):
        part_a, part_b = a[:, start : start + some].float(), b[:, start : start + some].float()
        for count, part in zip(counts, (part_a.sum(1), part_b.sum(1), part_a @ part_b.T), strict=True):
            count += part.long()
    kept_a, kept_b, intersection = (count.cpu().numpy() for count in counts)
    return kept_a, kept_b, intersection


def _agreement(
    kept_a: NDArray[np.int64],
    kept_b: NDArray[np.int64],
    intersection: NDArray[np.int64],
    shared_by_chance: NDArray[np.float64],
) -> Agreement:
    both = kept_a[:, None] + kept_b[None, :]
    union = both - intersection
    with np.errstate(invalid="ignore"):  # 0 / 0 where both are empty
        return Agreement(
            kept_a, kept_b, intersection, union, intersection / union, shared_by_chance / (both - shared_by_chance)
        )


def _between(a: Unit, b: Unit) -> str:
    if a.level == b.level:
        return "seeds" if (a.arm, a.draw) == (b.arm, b.draw) else "arms"
    if (a.arm, a.draw) == (b.arm, b.draw):
        return "levels"
    raise LthError(
        f"masks of {a.arm!r} at level {a.level} and of {b.arm!r} at level {b.level} differ in two things: "
        "compare arms at one level, or levels of one arm and draw"
    )


def _check(masks_a: Mapping[str, torch.Tensor], masks_b: Mapping[str, torch.Tensor]) -> None:
    if not masks_a or masks_a.keys() != masks_b.keys():
        raise LthError(
            f"masks can be compared over the same tensors only; got {', '.join(masks_a) or 'none'} and "
            f"{', '.join(masks_b) or 'none'}"
        )
    for name, a in masks_a.items():
        b = masks_b[name]
        if a.dtype != torch.bool or b.dtype != torch.bool:
            raise LthError(f"masks of {name!r} are {a.dtype} and {b.dtype}; a mask is boolean, True = kept")
        if a.shape[1:] != b.shape[1:]:
            raise LthError(
                f"masks of {name!r} have shapes {tuple(a.shape[1:])} and {tuple(b.shape[1:])}: compare "
                "masks of one network"
            )
