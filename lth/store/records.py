"""What a committed unit says of itself: the `levels` object with its seeds, checksums and the unit's other objects."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import pyarrow as pa

from lth.errors import DamagedObject
from lth.store import parquet
from lth.store.content import content_hash
from lth.store.schemas import result_columns
from lth.store.unit import Unit


@dataclass(frozen=True)
class ObjectRecord:
    """One object as it lies in the store: SHA-256 of its bytes, its size, its rows, and the hash of its content."""

    key: str
    sha256: str
    bytes: int
    rows: int
    content_sha256: str


def record_of(key: str, data: bytes, rows: int, content_sha256: str) -> ObjectRecord:
    """The record of an object that holds `data`."""
    return ObjectRecord(key, hashlib.sha256(data).hexdigest(), len(data), rows, content_sha256)


@dataclass(frozen=True)
class UnitRecord:
    """A committed unit and its other objects: `metrics`, `masks`, and `checkpoints` if one was written."""

    unit: Unit
    objects: Mapping[str, ObjectRecord]

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.unit.seeds


def encode_levels(levels: pa.Table, record: UnitRecord) -> bytes:
    """The `levels` object of a conforming table, the unit's commit mark."""
    return parquet.encode(
        levels,
        {
            "unit": record.unit.name,
            "seeds": json.dumps(list(record.seeds)),
            "content_sha256": content_hash(levels, result_columns("levels", levels)),
            "objects": json.dumps({kind: asdict(found) for kind, found in record.objects.items()}, sort_keys=True),
        },
    )


def decode_levels(data: bytes, unit_name: str) -> tuple[pa.Table, UnitRecord]:
    """The rows and the record of the `levels` object of `unit_name`.

    DamagedObject (its text is only the reason) unless it is whole and its rows, seeds and name agree.
    """
    levels, metadata = parquet.decode(data, "levels")
    try:
        seeds = tuple(json.loads(metadata["seeds"]))
        objects = {kind: ObjectRecord(**found) for kind, found in json.loads(metadata["objects"]).items()}
        arms, draws, numbers = (levels[name].unique().to_pylist() for name in ("arm", "draw", "level"))
        (arm,), (draw,), (level,) = arms, draws, numbers
        unit = Unit(arm, draw, level, seeds)
        named = metadata["unit"]
    except Exception as error:  # any of many ways in which metadata can be other than encode_levels wrote it
        raise DamagedObject(f"its metadata do not describe a unit ({type(error).__name__})") from error
    if not unit.name == named == unit_name:
        raise DamagedObject(f"it holds unit {unit.name}, not the one that its name says")
    if not {"metrics", "masks"} <= objects.keys():
        raise DamagedObject("its metadata do not record the unit's metrics and masks")
    if sorted(levels["seed"].to_pylist()) != list(seeds):
        raise DamagedObject("its rows are not those of its seeds")
    return levels, UnitRecord(unit, objects)
