"""Mask bits as they lie in an object: close to their entropy.

Independent bits that are rarely set cost H(density) bits each, but a general compressor sees bytes, and spends at least
one bit on each. So a sparse tensor is written as the gaps between its kept weights, a byte each, which zstd then codes
by their frequencies. An object holds each mask in one of two columns, `bits` or `gaps`, and null in the other;
docs/tables.md decodes both. Who reads through lth never sees this: bits are packed again when an object is decoded.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

GAPS = "gaps"
"""The column beside `bits` of objects from version 5 on."""

PACKED_3, GAPS_3 = b"\x00", b"\x01"
"""In objects of version 3 both stand in `bits`, after a byte that says which."""

SPARSE = 0.18
"""Below this density gaps are shorter than packed bits (found by trying; see benchmarks/masks.py)."""


def stored_masks(schema: pa.Schema) -> pa.Schema:
    """The columns of MASKS as they are written: `bits` where they are plain, else `gaps`."""
    place = schema.get_field_index("bits")
    bits = schema.field(place).with_nullable(True)
    return schema.set(place, bits).insert(place + 1, pa.field(GAPS, pa.binary(), nullable=True))


def gaps_of(bits: bytes, kept: int, total: int) -> bytes | None:
    """The gaps of packed bits (lowest first) of `total` weights, `kept` of them set; None where bits are shorter."""
    if not total or kept >= SPARSE * total:
        return None
    positions = np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8), count=total, bitorder="little"))
    gaps = np.diff(positions, prepend=-1) - 1
    # A gap of 255 or more is as many bytes of 255 as it holds, and the rest.
    ends = np.cumsum(gaps // 255 + 1) - 1
    encoded = np.full(int(ends[-1]) + 1 if len(ends) else 0, 255, np.uint8)
    encoded[ends] = gaps % 255
    return encoded.tobytes()


def bits_of(gaps: bytes, total: int) -> bytes:
    """The packed bits of `total` weights. Raises ValueError if `gaps` cannot be of so many."""
    numbers = np.frombuffer(gaps, np.uint8)
    ends = np.flatnonzero(numbers != 255)
    positions = np.cumsum(numbers, dtype=np.int64)[ends] + np.arange(len(ends))
    if len(numbers) and (not len(ends) or ends[-1] != len(numbers) - 1 or positions[-1] >= total):
        raise ValueError(f"mask gaps speak of more than {total} weights")
    flat = np.zeros(total, np.uint8)
    flat[positions] = 1
    return np.packbits(flat, bitorder="little").tobytes()


def with_gaps(masks: pa.Table) -> pa.Table:
    """Rows of MASKS as they are written."""
    columns = [masks[name].to_pylist() for name in ("bits", "remaining", "total")]
    gaps = [gaps_of(*row) for row in zip(*columns, strict=True)]
    bits = [plain if coded is None else None for plain, coded in zip(columns[0], gaps, strict=True)]
    place = masks.schema.get_field_index("bits")
    schema = stored_masks(masks.schema)
    table = masks.set_column(place, schema.field("bits"), pa.array(bits, pa.binary()))
    return table.add_column(place + 1, schema.field(GAPS), pa.array(gaps, pa.binary()))


def without_gaps(masks: pa.Table) -> pa.Table:
    """The inverse of `with_gaps`; raises ValueError for rows that hold no mask."""
    columns = (masks[name].to_pylist() for name in ("bits", GAPS, "total"))
    return _with_bits(masks.drop_columns([GAPS]), [_plain(*row) for row in zip(*columns, strict=True)])


def with_bits_of_version_3(masks: pa.Table) -> pa.Table:
    """Rows of MASKS from those of an object of version 3; raises ValueError for rows that hold no mask."""
    columns = (masks[name].to_pylist() for name in ("bits", "total"))
    return _with_bits(masks, [_plain_of_3(*row) for row in zip(*columns, strict=True)])


def _plain(bits: bytes | None, gaps: bytes | None, total: int) -> bytes:
    if (bits is None) == (gaps is None):
        raise ValueError("a mask stands neither in bits nor in gaps alone")
    return bits_of(gaps, total) if gaps is not None else bits or b""


def _plain_of_3(stored: bytes, total: int) -> bytes:
    if stored[:1] not in (PACKED_3, GAPS_3):
        raise ValueError(f"mask bits begin with {stored[:1]!r}, which no version of this program writes")
    return stored[1:] if stored[:1] == PACKED_3 else bits_of(stored[1:], total)


def _with_bits(masks: pa.Table, bits: list[bytes]) -> pa.Table:
    place = masks.schema.get_field_index("bits")
    return masks.set_column(place, masks.schema.field(place).with_nullable(False), pa.array(bits, pa.binary()))
