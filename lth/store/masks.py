"""Masks as rows: boolean tensors packed eight weights a byte, each row with its own checksum."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from lth.errors import DamagedObject, StoreError
from lth.store.schemas import MASKS
from lth.store.unit import Unit


def pack(masks: Mapping[str, np.ndarray], experiment_id: str, unit: Unit) -> pa.Table:
    """The rows of MASKS for boolean arrays `[S, *shape]`, one per tensor, S in the order of `unit.seeds`.

    Raises StoreError for an array that is not boolean or whose leading axis does not match the unit's seeds.
    """
    rows = []
    for tensor, mask in masks.items():
        array = np.asarray(mask)
        if array.dtype != np.bool_:
            raise StoreError(f"mask of {tensor!r} is {array.dtype}; a mask is boolean, True = kept")
        if array.ndim == 0 or array.shape[0] != len(unit.seeds):
            raise StoreError(
                f"mask of {tensor!r} has shape {array.shape}; its leading axis must hold the "
                f"{len(unit.seeds)} seeds of {unit.name}"
            )
        total = math.prod(array.shape[1:])
        flat = array.reshape(len(unit.seeds), total)
        packed = np.packbits(flat, axis=1, bitorder="little")
        for seed, kept, bits in zip(unit.seeds, flat.sum(axis=1).tolist(), packed, strict=True):
            content = bits.tobytes()
            rows.append(
                {
                    "experiment_id": experiment_id,
                    "arm": unit.arm,
                    "seed": seed,
                    "draw": unit.draw,
                    "level": unit.level,
                    "tensor": tensor,
                    "shape": list(array.shape[1:]),
                    "remaining": kept,
                    "total": total,
                    "bits": content,
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
            )
    return pa.Table.from_pylist(rows, schema=MASKS)


def unpack(table: pa.Table, seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """The boolean arrays `[S, *shape]` per tensor, S in the order of `seeds`, from rows of MASKS of one arm and level.

    Raises DamagedObject when a row does not match its checksum or counts, a seed lacks a tensor, or shapes differ.
    """
    position = {seed: index for index, seed in enumerate(seeds)}
    names = ["seed", "tensor", "shape", "remaining", "total", "bits", "sha256"]
    masks: dict[str, np.ndarray] = {}
    filled: dict[str, set[int]] = {}
    for seed, tensor, shape, remaining, total, bits, sha256 in zip(
        *(table[name].to_pylist() for name in names), strict=True
    ):
        if seed not in position:
            continue
        row = f"mask of seed {seed}, tensor {tensor!r}"
        if hashlib.sha256(bits).hexdigest() != sha256:
            raise DamagedObject(f"{row}: its bits do not match their SHA-256")
        if math.prod(shape) != total or len(bits) != -(-total // 8):
            raise DamagedObject(f"{row}: {len(bits)} bytes and shape {shape} do not make {total} weights")
        flat = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=total, bitorder="little").view(np.bool_)
        if np.count_nonzero(flat) != remaining:
            raise DamagedObject(f"{row}: {np.count_nonzero(flat)} weights remain, {remaining} are recorded")
        mask = masks.setdefault(tensor, np.zeros((len(seeds), *shape), dtype=np.bool_))
        if mask.shape[1:] != tuple(shape):
            raise DamagedObject(f"{row}: shape {shape} differs from another seed's {list(mask.shape[1:])}")
        mask[position[seed]] = flat.reshape(shape)
        filled.setdefault(tensor, set()).add(seed)
    for seed in seeds:
        lacking = [tensor for tensor in masks if seed not in filled[tensor]] if masks else ["every tensor"]
        if lacking:
            raise DamagedObject(f"mask of seed {seed}: no row for {', '.join(lacking)}")
    return masks


def mask_sha256(table: pa.Table) -> dict[int, str]:
    """Per seed the SHA-256 (hex) of its whole mask, for `levels.mask_sha256`, from rows of MASKS of one arm and level:
    the canonical JSON of the sorted (tensor, shape, SHA-256 of the packed bits)."""
    parts: dict[int, list[tuple[str, list[int], str]]] = {}
    columns = (table[name].to_pylist() for name in ("seed", "tensor", "shape", "sha256"))
    for seed, tensor, shape, sha256 in zip(*columns, strict=True):
        parts.setdefault(seed, []).append((tensor, shape, sha256))
    return {
        seed: hashlib.sha256(json.dumps(sorted(found), separators=(",", ":")).encode()).hexdigest()
        for seed, found in parts.items()
    }
