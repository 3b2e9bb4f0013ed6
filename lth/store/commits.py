"""Committing a unit: its other objects first, `levels` last, nothing overwritten, every repetition compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from lth.errors import DamagedObject, NotDeterministic, StoreError
from lth.store import checkpoints, parquet
from lth.store.content import content_hash
from lth.store.objects import Objects
from lth.store.origin_columns import differing_origins
from lth.store.records import ObjectRecord, UnitRecord, decode_levels, encode_levels, record_of
from lth.store.schemas import ROW_KEYS, conform, result_columns
from lth.store.score_columns import scores_in
from lth.store.unit import UNIT_KINDS, Unit, checkpoint_key, levels_key, unit_key

if TYPE_CHECKING:
    import torch

ATTEMPTS = 4
"""How often an object may vanish, or have to be put aside, between our writing it and our reading it."""


def commit(
    objects: Objects,
    experiment_id: str,
    unit: Unit,
    levels: pa.Table,
    metrics: pa.Table,
    masks: pa.Table,
    checkpoint: Mapping[str, torch.Tensor] | None = None,
) -> bool:
    """Writes the unit; see `Store.commit`."""
    try:
        return _written(objects, experiment_id, unit, levels, metrics, masks, checkpoint)
    except NotDeterministic as error:
        raise NotDeterministic(f"{error}: {_cause(objects, experiment_id, unit, levels)}") from None


def _written(
    objects: Objects,
    experiment_id: str,
    unit: Unit,
    levels: pa.Table,
    metrics: pa.Table,
    masks: pa.Table,
    checkpoint: Mapping[str, torch.Tensor] | None,
) -> bool:
    tables = {
        kind: _checked(kind, table, experiment_id, unit)
        for kind, table in (("levels", levels), ("metrics", metrics), ("masks", masks))
    }
    if sorted(tables["levels"]["seed"].to_pylist()) != list(unit.seeds):
        raise StoreError(
            f"unit {unit.name}: its levels have {tables['levels'].num_rows} rows; they must be one for "
            f"each of its {len(unit.seeds)} seeds"
        )
    if len({*scores_in(tables["levels"]), *scores_in(tables["metrics"])}) > 1:
        raise StoreError(
            f"unit {unit.name}: its levels are scored by {', '.join(scores_in(tables['levels']))} and its metrics by "
            f"{', '.join(scores_in(tables['metrics'])) or 'none'}; a unit has one score"
        )
    placed: dict[str, ObjectRecord] = {}
    for kind in ("metrics", "masks"):
        content = content_hash(tables[kind], result_columns(kind, tables[kind]))
        data = parquet.encode(tables[kind], {"unit": unit.name, "content_sha256": content})
        stored = _place(objects, unit_key(kind, experiment_id, unit.name), data, kind, unit, content, _content_of(kind))
        placed[kind] = record_of(unit_key(kind, experiment_id, unit.name), stored, tables[kind].num_rows, content)
    if checkpoint is not None:
        key, data = checkpoint_key(experiment_id, unit.name), checkpoints.encode(checkpoint, unit.seeds)
        content = checkpoints.content_of(checkpoint)
        stored = _place(objects, key, data, "checkpoint", unit, content, _checkpoint_content)
        placed["checkpoints"] = record_of(key, stored, len(unit.seeds), content)
    return _place_levels(objects, experiment_id, tables["levels"], UnitRecord(unit, placed))


def _checked(kind: str, table: pa.Table, experiment_id: str, unit: Unit) -> pa.Table:
    """The table in its schema, if each of its rows belongs to this unit and none is there twice."""
    table = conform(table, kind)
    expected = {"experiment_id": experiment_id, "arm": unit.arm, "draw": unit.draw, "level": unit.level}
    for name, value in expected.items():
        for other in pc.unique(table[name]).to_pylist():
            if other != value:
                raise StoreError(f"unit {unit.name}: its {kind} have {name} {other!r}; the unit's is {value!r}")
    foreign = set(pc.unique(table["seed"]).to_pylist()) - set(unit.seeds)
    if foreign:
        raise StoreError(f"unit {unit.name}: its {kind} have seed {min(foreign)}, which is not one of the unit's")
    keys = list(ROW_KEYS[kind])
    if table.select(keys).group_by(keys).aggregate([]).num_rows != table.num_rows:
        raise StoreError(f"unit {unit.name}: its {kind} have a row twice; {', '.join(keys)} must differ")
    return table


def _content_of(kind: str) -> Callable[[bytes], str]:
    def content(data: bytes) -> str:
        table = parquet.decode(data, kind)[0]
        return content_hash(table, result_columns(kind, table))

    return content


def _checkpoint_content(data: bytes) -> str:
    return checkpoints.content_of(checkpoints.decode(data)[0])


def _place(
    objects: Objects, key: str, data: bytes, kind: str, unit: Unit, content: str, content_of: Callable[[bytes], str]
) -> bytes:
    """Creates the object, or accepts one of the same content; returns the bytes that really lie there.

    A damaged object is put into quarantine. Another content raises NotDeterministic.
    """
    for _ in range(ATTEMPTS):
        if objects.create(key, data):
            return data
        existing = objects.read(key)
        if existing is None:
            continue
        try:
            existing_content = content_of(existing)
        except DamagedObject:
            objects.quarantine(key, existing)
            continue
        if existing_content != content:
            raise _not_deterministic(objects, key, kind, unit)
        return existing
    raise _vanishing_object(objects, key)


def _place_levels(objects: Objects, experiment_id: str, levels: pa.Table, record: UnitRecord) -> bool:
    """Creates the commit mark, or accepts one that says the same of the same objects. True: we wrote it."""
    unit, key, data = record.unit, levels_key(experiment_id, record.unit.name), encode_levels(levels, record)
    for _ in range(ATTEMPTS):
        if objects.create(key, data):
            return True
        existing = objects.read(key)
        if existing is None:
            continue
        try:
            earlier, earlier_record = decode_levels(existing, unit.name)
        except DamagedObject:
            objects.quarantine(key, existing)
            continue
        differing = [
            name
            for name in result_columns("levels", levels)
            if content_hash(earlier, ["seed", name]) != content_hash(levels, ["seed", name])
        ]
        if differing:
            raise _not_deterministic(objects, key, "levels", unit, f" in {', '.join(differing)}")
        if all(earlier_record.objects[kind] == record.objects[kind] for kind in ("metrics", "masks")):
            return False
        # The unit lost its metrics or masks and has just been given them again: the old mark speaks of other bytes.
        objects.quarantine(key, existing)
    raise _vanishing_object(objects, key)


def quarantine_unit(objects: Objects, experiment_id: str, unit_name: str) -> list[str]:
    """Moves the unit's objects aside, the commit mark first; see `Store.quarantine_unit`."""
    moved = (objects.quarantine(unit_key(kind, experiment_id, unit_name)) for kind in UNIT_KINDS)
    return [key for key in moved if key is not None]


def _not_deterministic(objects: Objects, key: str, kind: str, unit: Unit, where: str = "") -> NotDeterministic:
    return NotDeterministic(
        f"unit {unit.name}: its {kind} differ{where} from what an earlier run of the same seeds left at "
        f"{objects.location.url}/{key}"
    )


def _cause(objects: Objects, experiment_id: str, unit: Unit, levels: pa.Table) -> str:
    """What the stored unit and ours were computed with, where that differs, and what to do."""
    remedy = "compute as it was, or quarantine the unit to compute it anew"
    data = objects.read(levels_key(experiment_id, unit.name))
    try:
        stored = None if data is None else decode_levels(data, unit.name)[0]
    except DamagedObject:
        stored = None
    if stored is None:
        return f"what that was computed with is not known, since it has no levels; {remedy}"
    if differences := differing_origins(stored, conform(levels, "levels")):
        theirs, ours = (" and ".join(side) for side in zip(*differences, strict=True))
        return f"the stored one was computed with {theirs}, this one with {ours}; {remedy}"
    return (
        "code, torch, engine, instructions, threads and device of the two are the same, so something else decides: "
        f"does the network or the data draw random numbers of its own? {remedy}"
    )


def _vanishing_object(objects: Objects, key: str) -> StoreError:
    return StoreError(
        f"store {objects.location.url}: {key} can neither be created nor read back; see whether another "
        "program removes objects there"
    )
