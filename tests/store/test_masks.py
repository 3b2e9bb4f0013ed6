from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lth.errors import DamagedObject, StoreError
from lth.store import MASKS, Unit, mask_sha256, pack, unpack

from .cohorts import EXPERIMENT, change, masks_of

UNIT = Unit("ticket", 0, 1, (3, 5, 8))


@given(
    arrays.arrays(np.bool_, st.tuples(st.just(3), *[st.integers(0, 5)] * 3)),
    arrays.arrays(np.bool_, st.tuples(st.just(3), st.integers(1, 40))),
    st.permutations([3, 5, 8]),
)
def test_masks_come_back_as_they_went(one: np.ndarray, other: np.ndarray, seeds: list[int]) -> None:
    table = pack({"one": one, "other": other}, EXPERIMENT, UNIT)
    assert table.schema == MASKS and table.num_rows == 6
    rows = [UNIT.seeds.index(seed) for seed in seeds]
    found = unpack(table, seeds)
    np.testing.assert_array_equal(found["one"], one[rows])
    np.testing.assert_array_equal(found["other"], other[rows])
    assert found["one"].dtype == np.bool_


def test_packed_bits_by_hand() -> None:
    mask = np.array([[[1, 0, 0, 0, 0], [0, 0, 0, 1, 1]]], dtype=bool)  # weights 0, 8 and 9 of ten: bytes 1 and 3
    (row,) = pack({"w": mask}, EXPERIMENT, Unit("ticket", 0, 1, (7,))).to_pylist()
    assert row == {
        "experiment_id": EXPERIMENT,
        "arm": "ticket",
        "seed": 7,
        "draw": 0,
        "level": 1,
        "tensor": "w",
        "shape": [2, 5],
        "remaining": 3,
        "total": 10,
        "bits": b"\x01\x03",
        "sha256": hashlib.sha256(b"\x01\x03").hexdigest(),
    }


def test_digest_of_a_seeds_mask_depends_on_that_mask_only() -> None:
    alone = mask_sha256(pack(masks_of((5,)), EXPERIMENT, Unit("ticket", 0, 1, (5,))))
    masks = masks_of(UNIT.seeds)
    together = mask_sha256(pack(dict(reversed(masks.items())), EXPERIMENT, UNIT))
    assert together[5] == alone[5] and len(set(together.values())) == 3
    masks["hidden.weight"][1, 0, 0] ^= True
    changed = mask_sha256(pack(masks, EXPERIMENT, UNIT))
    assert changed[5] != together[5] and changed[3] == together[3]


def test_what_is_no_mask_is_refused() -> None:
    with pytest.raises(StoreError, match="float64"):
        pack({"w": np.ones((3, 2))}, EXPERIMENT, UNIT)
    with pytest.raises(StoreError, match="3 seeds"):
        pack({"w": np.ones((2, 2), dtype=bool)}, EXPERIMENT, UNIT)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("bits", b"\x00\x00", "SHA-256"),
        ("total", 99, "99 weights"),
        ("shape", [5, 5], "15 weights"),
        ("remaining", 0, "recorded"),
        ("seed", 99, "no row for hidden.weight"),
    ],
)
def test_damaged_rows_are_named(column: str, value: object, message: str) -> None:
    table = pack(masks_of(UNIT.seeds), EXPERIMENT, UNIT)
    with pytest.raises(DamagedObject, match=message):
        unpack(change(table, column, 0, value), UNIT.seeds)


def test_a_seed_without_rows_is_named() -> None:
    with pytest.raises(DamagedObject, match="seed 4"):
        unpack(pack(masks_of(UNIT.seeds), EXPERIMENT, UNIT), [3, 4])
    with pytest.raises(DamagedObject, match="seed 3"):
        unpack(pa.Table.from_pylist([], schema=MASKS), [3])
