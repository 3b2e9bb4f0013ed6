"""Mask bits as they are stored: nothing is lost, little is spent, and what earlier versions wrote is read."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lth.errors import DamagedObject
from lth.store import Store, Unit, pack, parquet
from lth.store.mask_bits import GAPS, PACKED, decode_bits, encode_bits
from lth.store.unit import unit_key

from .cohorts import EXPERIMENT, tables


def packed(flat: np.ndarray) -> bytes:
    return np.packbits(flat, bitorder="little").tobytes()


def test_by_hand() -> None:
    flat = np.zeros(1000, dtype=bool)
    flat[[0, 3, 4, 259, 260 + 255, 999]] = True
    # Gaps 0, 2, 0, 254; then 255, which is 255 and 0; then 483, which is 255 and 228.
    assert encode_bits(packed(flat), 6, 1000) == GAPS + bytes([0, 2, 0, 254, 255, 0, 255, 228])
    assert decode_bits(GAPS + bytes([0, 2, 0, 254, 255, 0, 255, 228]), 1000) == packed(flat)
    half = np.arange(16) % 2 == 0
    assert encode_bits(packed(half), 8, 16) == PACKED + packed(half)


@given(st.integers(0, 3000), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_nothing_is_lost(total: int, density: float, seed: int) -> None:
    flat = np.random.default_rng(seed).random(total) < density
    stored = encode_bits(packed(flat), int(flat.sum()), total)
    assert decode_bits(stored, total) == packed(flat)


@given(st.binary(max_size=40), st.integers(0, 200))
def test_other_bytes_are_refused_or_make_a_mask(stored: bytes, total: int) -> None:
    try:
        found = decode_bits(GAPS + stored, total)
    except ValueError:
        return
    assert len(found) == -(-total // 8)


@pytest.mark.parametrize("level", range(20))
def test_a_lenet_ladder_costs_little_more_than_its_entropy(level: int) -> None:
    """64 seeds of LeNet-300-100 with random masks, everything in the object counted: at most 1.15 H(density)."""
    generator, density = np.random.default_rng(level), 0.8**level
    shapes = {"0.weight": (300, 784), "2.weight": (100, 300), "4.weight": (10, 100)}
    masks = {name: generator.random((64, *shape)) < density for name, shape in shapes.items()}
    data = parquet.encode(pack(masks, EXPERIMENT, Unit("ticket", 0, level, tuple(range(64)))), {})
    weights = 64 * sum(rows * columns for rows, columns in shapes.values())
    kept = sum(int(mask.sum()) for mask in masks.values()) / weights
    entropy = 0.0 if kept in (0, 1) else -(kept * np.log2(kept) + (1 - kept) * np.log2(1 - kept))
    assert 8 * len(data) <= max(1.15 * entropy, 0.01) * weights


def written_plainly(masks: pa.Table, version: str) -> bytes:
    """An object whose bits are as they stand."""
    sink = io.BytesIO()
    plain = masks.replace_schema_metadata({"schema_version": version, parquet.CHECKSUM: parquet.BLANK})
    pq.write_table(plain, sink, write_page_checksum=True)
    data = sink.getvalue()
    return parquet.put_checksum(data, data.rindex(parquet.BLANK.encode()))


def test_masks_of_version_2_are_still_read() -> None:
    masks = tables(Unit("ticket", 0, 0, (0, 1)))[2]
    assert parquet.decode(written_plainly(masks, "2"), "masks")[0].equals(masks)


def test_bits_that_are_none_are_damage() -> None:
    masks = tables(Unit("ticket", 0, 0, (0,)))[2]
    for bits, said in ((b"\x07", "bits begin with"), (GAPS + bytes([200]), "more than 15 weights")):
        odd = masks.set_column(masks.column_names.index("bits"), masks.schema.field("bits"), [[bits] * masks.num_rows])
        with pytest.raises(DamagedObject, match=said):
            parquet.decode(written_plainly(odd, "3"), "masks")


def test_rows_that_are_read_hold_plain_bits(file_store: Store) -> None:
    unit = Unit("ticket", 0, 0, (0, 1))
    file_store.commit(EXPERIMENT, unit, *tables(unit))
    found = file_store.read_table(file_store.committed(EXPERIMENT), "masks")[0]
    assert found.equals(tables(unit)[2])
    raw = pq.read_table(io.BytesIO(file_store.read(unit_key("masks", EXPERIMENT, unit.name)) or b""))
    assert all(bits[:1] in (PACKED, GAPS) for bits in raw["bits"].to_pylist())
