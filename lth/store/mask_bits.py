"""Mask bits as they lie in an object: close to their entropy.

Independent bits that are rarely set cost H(density) bits each, but a general compressor sees bytes, and spends at least
one bit on each. So a sparse tensor is written as the gaps between its kept weights, a byte each, which zstd then codes
by their frequencies. Who reads a table never sees this: bits are packed again when an object is decoded.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

PACKED, GAPS = b"\x00", b"\x01"
"""The first byte of a encoded row: what follows it."""

SPARSE = 0.18
"""Below this density gaps are shorter than packed bits (found by trying; see benchmarks/masks.py)."""


def encode_bits(bits: bytes, kept: int, total: int) -> bytes:
    """Packed bits (lowest first) of `total` weights, `kept` of them set, as they are stored."""
    if not total or kept >= SPARSE * total:
        return PACKED + bits
    positions = np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8), count=total, bitorder="little"))
    gaps = np.diff(positions, prepend=-1) - 1
    # A gap of 255 or more is as many bytes of 255 as it holds, and the rest.
    ends = np.cumsum(gaps // 255 + 1) - 1
    encoded = np.full(int(ends[-1]) + 1 if len(ends) else 0, 255, np.uint8)
    encoded[ends] = gaps % 255
    return GAPS + encoded.tobytes()


def decode_bits(stored: bytes, total: int) -> bytes:
    """The packed bits of `total` weights. Raises ValueError if `stored` cannot be of so many."""
    how, content = stored[:1], stored[1:]
    if how == PACKED:
        return content
    if how != GAPS:
        raise ValueError(f"mask bits begin with {how!r}, which no version of this program writes")
    numbers = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(numbers != 255)
    positions = np.cumsum(numbers, dtype=np.int64)[ends] + np.arange(len(ends))
    if len(numbers) and (not len(ends) or ends[-1] != len(numbers) - 1 or positions[-1] >= total):
        raise ValueError(f"mask bits speak of more than {total} weights")
    flat = np.zeros(total, np.uint8)
    flat[positions] = 1
    return np.packbits(flat, bitorder="little").tobytes()


def with_encoded_bits(masks: pa.Table) -> pa.Table:
    """Rows of MASKS with their bits as they are stored."""
    columns = (masks[name].to_pylist() for name in ("bits", "remaining", "total"))
    return _with_bits(masks, [encode_bits(*row) for row in zip(*columns, strict=True)])


def with_decoded_bits(masks: pa.Table) -> pa.Table:
    """The inverse of `with_encoded_bits`; raises ValueError for bits that are none."""
    columns = (masks[name].to_pylist() for name in ("bits", "total"))
    return _with_bits(masks, [decode_bits(*row) for row in zip(*columns, strict=True)])


def _with_bits(masks: pa.Table, bits: list[bytes]) -> pa.Table:
    place = masks.schema.get_field_index("bits")
    return masks.set_column(place, masks.schema.field(place), pa.array(bits, pa.binary()))
