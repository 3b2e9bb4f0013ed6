"""A cohort that a GPU has no memory for goes on in halves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

import torch

from lth.errors import LthError

T = TypeVar("T")


def in_memory(rows: list[int], seeds: Sequence[int], work: Callable[[list[int]], T]) -> Iterator[T]:
    """What `work` makes of the rows of a cohort: of all at once, or where a GPU's memory ends, of halves, in order.

    `seeds` are the whole cohort's. Raises LthError if one seed alone does not fit.
    """
    results: list[T] = []
    with suppress(torch.OutOfMemoryError):  # left behind, it holds nothing of what `work` had put onto the device
        results.append(work(rows))
    if results:
        yield results[0]
        return
    torch.cuda.empty_cache()
    if len(rows) == 1:
        raise LthError(
            f"seed {seeds[rows[0]]} alone needs more memory than its share of the GPU has; raise gpu_share, "
            "or set a smaller training.batch_size"
        )
    middle = len(rows) // 2
    for half in (rows[:middle], rows[middle:]):
        yield from in_memory(half, seeds, work)
