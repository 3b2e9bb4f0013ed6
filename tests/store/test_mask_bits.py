"""Mask bits as they are stored: nothing is lost, little is spent, and what earlier versions wrote is read."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lth.errors import DamagedObject
from lth.store import Store, Unit, pack, parquet
from lth.store.mask_bits import GAPS, GAPS_3, PACKED_3, bits_of, gaps_of
from lth.store.unit import unit_key

from .cohorts import EXPERIMENT, tables

PAGE = (Path(__file__).parents[2] / "docs" / "tables.md").read_text()


def packed(flat: np.ndarray) -> bytes:
    return np.packbits(flat, bitorder="little").tobytes()


def test_by_hand() -> None:
    flat = np.zeros(1000, dtype=bool)
    flat[[0, 3, 4, 259, 260 + 255, 999]] = True
    # Gaps 0, 2, 0, 254; then 255, which is 255 and 0; then 483, which is 255 and 228.
    assert gaps_of(packed(flat), 6, 1000) == bytes([0, 2, 0, 254, 255, 0, 255, 228])
    assert bits_of(bytes([0, 2, 0, 254, 255, 0, 255, 228]), 1000) == packed(flat)
    half = np.arange(16) % 2 == 0
    assert gaps_of(packed(half), 8, 16) is None


@given(st.integers(0, 3000), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_nothing_is_lost(total: int, density: float, seed: int) -> None:
    flat = np.random.default_rng(seed).random(total) < density
    gaps = gaps_of(packed(flat), int(flat.sum()), total)
    assert gaps is None or bits_of(gaps, total) == packed(flat)


@given(st.binary(max_size=40), st.integers(0, 200))
def test_other_bytes_are_refused_or_make_a_mask(stored: bytes, total: int) -> None:
    try:
        found = bits_of(stored, total)
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


def test_masks_of_version_3_are_still_read() -> None:
    """They have a byte before the bits, or before the gaps."""
    masks = tables(Unit("ticket", 0, 0, (0, 1)))[2]
    rows = zip(*(masks[name].to_pylist() for name in ("bits", "total", "remaining")), strict=True)
    coded = [
        PACKED_3 + bits
        if row % 2
        else GAPS_3 + (np.diff(np.flatnonzero(unpacked(bits, total)), prepend=-1) - 1).astype(np.uint8).tobytes()
        for row, (bits, total, _) in enumerate(rows)
    ]
    place = masks.column_names.index("bits")
    old = masks.set_column(place, masks.schema.field("bits"), pa.array(coded, pa.binary()))
    assert parquet.decode(written_plainly(old, "3"), "masks")[0].equals(masks)


def unpacked(bits: bytes, total: int) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=total, bitorder="little")


@pytest.mark.parametrize(
    ("version", "bits", "gaps", "said"),
    [
        ("3", b"\x07", None, "bits begin with"),
        ("3", GAPS_3 + bytes([200]), None, "more than 15 weights"),
        ("5", None, bytes([200]), "more than 15 weights"),
        ("5", None, None, "neither in bits nor in gaps"),
        ("5", b"\x07", b"\x07", "neither in bits nor in gaps"),
    ],
)
def test_bits_that_are_none_are_damage(version: str, bits: bytes | None, gaps: bytes | None, said: str) -> None:
    masks = tables(Unit("ticket", 0, 0, (0,)))[2]
    place = masks.column_names.index("bits")
    field = masks.schema.field("bits").with_nullable(version == "5")
    odd = masks.set_column(place, field, pa.array([bits] * masks.num_rows, pa.binary()))
    if version == "5":
        column = pa.array([gaps] * masks.num_rows, pa.binary())
        odd = odd.add_column(place + 1, pa.field(GAPS, pa.binary()), column)
    with pytest.raises(DamagedObject, match=said):
        parquet.decode(written_plainly(odd, version), "masks")


SHAPES = [(16,), (3, 5), (1, 1), (7, 11, 13), (4, 3, 3, 3), (0,), (2, 0, 3), (1,), (100, 90)]


@pytest.mark.parametrize("density", [0.0, 0.001, 0.02, 0.15, 0.18, 0.5, 0.98, 1.0])
def test_any_reader_and_the_page_alone_decode_what_is_stored(file_store: Store, density: float) -> None:
    """The code of docs/tables.md on the raw object: every shape, both columns, with three readers."""
    unit, generator = Unit("ticket", 0, 1, (0, 3)), np.random.default_rng(7)
    masks = {f"w{index}": generator.random((2, *shape)) < density for index, shape in enumerate(SHAPES)}
    rows = pack(masks, EXPERIMENT, unit)
    file = Path(file_store.objects.location.root) / "raw.parquet"
    file.parent.mkdir()
    file.write_bytes(parquet.encode(rows, {}))
    code: dict[str, Any] = {}
    [page] = re.findall(r"```python\n(import numpy as np\n.*?)```", PAGE, re.DOTALL)
    assert len(page.strip().splitlines()) <= 15
    exec(page, code)
    readers: dict[str, list[dict[str, Any]]] = {
        "pyarrow": pq.read_table(file).to_pylist(),
        "duckdb": duckdb.sql(f"SELECT * FROM '{file}'").to_arrow_table().to_pylist(),
    }
    for found in readers.values():
        assert len(found) == 2 * len(SHAPES)
        for row in found:
            mask = code["mask_of"](row)
            assert np.array_equal(mask, masks[row["tensor"]][unit.seeds.index(row["seed"])])
            assert hashlib.sha256(packed(mask.ravel())).hexdigest() == row["sha256"]
    kinds = {row["gaps"] is None for row in readers["pyarrow"] if row["total"] > 1}
    assert kinds == {density >= 0.18} or density in (0.15, 0.18, 0.02, 0.001)


def test_rows_that_are_read_hold_plain_bits(file_store: Store) -> None:
    unit = Unit("ticket", 0, 0, (0, 1))
    file_store.commit(EXPERIMENT, unit, *tables(unit))
    found = file_store.read_table(file_store.committed(EXPERIMENT), "masks")[0]
    assert found.equals(tables(unit)[2])
    raw = pq.read_table(io.BytesIO(file_store.read(unit_key("masks", EXPERIMENT, unit.name)) or b""))
    assert raw["bits"].to_pylist() == found["bits"].to_pylist()  # half of the weights are kept: none in gaps
