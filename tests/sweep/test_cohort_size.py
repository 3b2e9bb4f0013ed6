"""How many seeds a unit holds, and how many units share a GPU."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lth.sweep.cohort_size import MOST_SHARES, bytes_on_gpu, choose_cohort_size, shares_of_gpu

GB = 10**9


@pytest.mark.parametrize(
    ("seeds", "slots", "width", "expected"),
    [(5, 2, 50_000, 3), (1, 2, 50_000, 1), (1000, 2, 50_000, 256), (4, 16, 50_000, 1), (100, 1, 20_000_000, 2)],
)
def test_cohorts_fill_slots_and_fit_memory(seeds: int, slots: int, width: int, expected: int) -> None:
    assert choose_cohort_size(seeds, slots, width) == expected


def test_what_a_cohort_needs_of_a_gpu_by_hand() -> None:
    # 10 seeds of 1,000 parameters and 50 activations: 10 x (24,000 + 600) bytes, CUDA's half a gibibyte, the data.
    assert bytes_on_gpu(10, 1_000, 50, 7) == 246_000 + 2**29 + 7


@pytest.mark.parametrize(
    ("memory", "needed", "cores", "expected"),
    [
        (141 * GB, 10 * GB, 64, 12),
        (141 * GB, 10 * GB, 4, 4),
        (16 * GB, 10 * GB, 8, 1),
        (24 * GB, 10 * GB, 8, 2),
        (8 * GB, 10 * GB, 8, 1),
        (141 * GB, GB, 64, MOST_SHARES),
        (80 * GB, GB, 0, 1),
    ],
)
def test_a_gpu_is_shared_by_memory_and_cores(memory: int, needed: int, cores: int, expected: int) -> None:
    assert shares_of_gpu(memory, needed, cores) == expected


@given(st.integers(1, 500), st.integers(1, 10**7), st.integers(0, 10**7), st.integers(1, 300), st.integers(1, 64))
def test_what_shares_a_gpu_fits_into_it(seeds: int, width: int, activations: int, memory: int, cores: int) -> None:
    needed = bytes_on_gpu(choose_cohort_size(seeds, 1, width, activations), width, activations, 10**8)
    cohorts = shares_of_gpu(memory * GB, needed, cores)
    assert cohorts == 1 or cohorts * needed <= 0.9 * memory * GB
