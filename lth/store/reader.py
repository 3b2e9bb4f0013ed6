"""Reading what is committed: each row counted once, every object checked, the damaged ones named and left out."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lth.errors import DamagedObject
from lth.store import checkpoints, parquet
from lth.store.masks import unpack
from lth.store.objects import Objects
from lth.store.records import UnitRecord, decode_levels
from lth.store.schemas import LEVELS, ROW_KEYS, SCHEMAS
from lth.store.unit import checkpoint_key, folder, is_name, levels_key, unit_name_of

if TYPE_CHECKING:
    import torch

READERS = 16
"""Objects read at the same time: they are small, so that a store's latency decides, not its bandwidth."""

Place = tuple[str, int, int, int]
"""(arm, draw, level, seed): what is computed once."""


@dataclass(frozen=True)
class Committed:
    """What an experiment has: the committed units and, apart from them, what is damaged."""

    rows: pa.Table
    """LEVELS, each (arm, draw, level, seed) once, in that order."""
    where: Mapping[Place, str]
    """(arm, draw, level, seed) -> the name of the unit that counts for it."""
    damaged: Mapping[str, str]
    """Key -> what is wrong with it. Units with a damaged object are not committed."""
    units: Mapping[str, UnitRecord]
    """Unit name -> its record, for every committed unit."""


def committed(objects: Objects, experiment_id: str, without: Collection[str] = ()) -> Committed:
    """Reads every `levels` object of the experiment, but for the units named `without`, and holds it against listings
    of the others; raises StoreError only if the store cannot be reached."""
    # Levels first: whatever unit is in that listing had its other objects before the next listings are made.
    listings = {kind: objects.sizes(folder(kind, experiment_id)) for kind in ("levels", "metrics", "masks")}
    listings["levels"] = {key: size for key, size in listings["levels"].items() if unit_name_of(key) not in without}
    damaged: dict[str, str] = {}
    decoded: list[tuple[pa.Table, UnitRecord]] = []
    with ThreadPoolExecutor(READERS) as pool:
        contents = pool.map(lambda key: _read_named(objects, experiment_id, key), listings["levels"])
        for key, content in zip(listings["levels"], contents, strict=True):
            # Decoded here, not in the pool: threads would only fight for the interpreter.
            reading = _decoded(content, experiment_id, key)
            if isinstance(reading, DamagedObject):
                damaged[key] = str(reading)
            elif reading is not None:
                problems = _missing_or_resized(reading[1], listings)
                damaged.update(problems)
                if not problems:
                    decoded.append(reading)
    # Of two units that hold the same seed the earlier counts, so that units committed later never move a seed.
    decoded.sort(key=lambda reading: (pc.min(reading[0]["finished_at"]).value, reading[1].unit.name))
    where: dict[Place, str] = {}
    counted: list[bool] = []
    for levels, record in decoded:
        for place in zip(*(levels[name].to_pylist() for name in ROW_KEYS["levels"]), strict=True):
            counted.append(where.setdefault(place, record.unit.name) == record.unit.name)
    rows = pa.concat_tables([LEVELS.empty_table(), *(levels for levels, _ in decoded)])
    rows = rows.filter(pa.array(counted, pa.bool_())).sort_by([(name, "ascending") for name in ROW_KEYS["levels"]])
    return Committed(rows, where, damaged, {record.unit.name: record for _, record in decoded})


def _read_named(objects: Objects, experiment_id: str, key: str) -> bytes | DamagedObject | None:
    """The content of a listed key, if it is named as a `levels` object is; None if it has been put into quarantine."""
    name = unit_name_of(key)
    if is_name(name) and key == levels_key(experiment_id, name):
        return objects.read(key)
    return DamagedObject("its name is not a unit's; remove it")


def _decoded(
    content: bytes | DamagedObject | None, experiment_id: str, key: str
) -> tuple[pa.Table, UnitRecord] | DamagedObject | None:
    if content is None or isinstance(content, DamagedObject):
        return content
    try:
        levels, record = decode_levels(content, unit_name_of(key))
    except DamagedObject as error:
        return error
    if pc.unique(levels["experiment_id"]).to_pylist() != [experiment_id]:
        return DamagedObject("its rows belong to another experiment")
    return levels, record


def _missing_or_resized(record: UnitRecord, listings: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    problems = {}
    for kind in ("metrics", "masks"):
        expected = record.objects[kind]
        size = listings[kind].get(expected.key)
        if size is None:
            problems[expected.key] = f"it is missing; unit {record.unit.name} recorded it"
        elif size != expected.bytes:
            problems[expected.key] = f"it has {size:,} bytes; unit {record.unit.name} recorded {expected.bytes:,}"
    return problems


def read_table(objects: Objects, results: Committed, kind: str) -> tuple[pa.Table, dict[str, str]]:
    """The `metrics` or `masks` rows of committed units, each (arm, draw, level, seed) from the unit that counts for it,
    and of the objects that turn out damaged: key -> what is wrong. Their rows are left out."""
    seeds: dict[str, list[int]] = {}
    for (_, _, _, seed), name in results.where.items():
        seeds.setdefault(name, []).append(seed)

    def rows_of(name: str) -> pa.Table | DamagedObject:
        try:
            table = _read_recorded(objects, results.units[name], kind)
        except DamagedObject as error:
            return error
        if len(seeds[name]) < len(results.units[name].seeds):
            table = table.filter(pc.is_in(table["seed"], pa.array(seeds[name], pa.int64())))
        return table

    tables, damaged = [SCHEMAS[kind].empty_table()], {}
    names = sorted(seeds)
    with ThreadPoolExecutor(READERS) as pool:
        for name, reading in zip(names, pool.map(rows_of, names), strict=True):
            if isinstance(reading, DamagedObject):
                damaged[results.units[name].objects[kind].key] = str(reading)
            else:
                tables.append(reading)
    return pa.concat_tables(tables), damaged


def _read_recorded(objects: Objects, record: UnitRecord, kind: str) -> pa.Table:
    """An object that a unit recorded; DamagedObject (its text is only the reason) unless its bytes are those."""
    expected = record.objects[kind]
    data = objects.read(expected.key)
    if data is None:
        raise DamagedObject("it is missing")
    if hashlib.sha256(data).hexdigest() != expected.sha256:
        raise DamagedObject("its bytes do not match the SHA-256 that the unit recorded")
    return parquet.decode(data, kind)[0]


def read_record(objects: Objects, experiment_id: str, unit_name: str) -> UnitRecord:
    """The record of a committed unit; DamagedObject if it is not readable or there is no such unit."""
    key = levels_key(experiment_id, unit_name)
    reading = _decoded(objects.read(key), experiment_id, key)
    if reading is None:
        raise damaged_object(objects, key, "it does not exist: the unit is not committed")
    if isinstance(reading, DamagedObject):
        raise damaged_object(objects, key, str(reading)) from reading
    return reading[1]


def read_masks(objects: Objects, experiment_id: str, where: Mapping[int, str]) -> dict[str, np.ndarray]:
    """Masks `[S, *shape]` by tensor, S in the order of `where` (seed -> unit name); see `Store.read_masks`."""
    names = sorted(set(where.values()))

    def masks_of(name: str) -> dict[str, np.ndarray]:
        record = read_record(objects, experiment_id, name)
        try:
            return unpack(_read_recorded(objects, record, "masks"), seeds[name])
        except DamagedObject as error:
            raise damaged_object(objects, record.objects["masks"].key, str(error)) from error

    seeds = {name: [seed for seed, unit in where.items() if unit == name] for name in names}
    with ThreadPoolExecutor(READERS) as pool:
        parts = list(pool.map(masks_of, names))
    rows = {seed: row for row, seed in enumerate(where)}
    masks: dict[str, np.ndarray] = {}
    for name, part in zip(names, parts, strict=True):
        shapes = {tensor: array.shape[1:] for tensor, array in part.items()}
        if not masks:
            masks = {tensor: np.zeros((len(rows), *shape), dtype=np.bool_) for tensor, shape in shapes.items()}
        if shapes != {tensor: array.shape[1:] for tensor, array in masks.items()}:
            key = folder("masks", experiment_id)
            raise damaged_object(objects, key, f"units {names[0]} and {name} hold masks of different networks")
        for tensor, array in part.items():
            masks[tensor][[rows[seed] for seed in seeds[name]]] = array
    return masks


def read_checkpoint(objects: Objects, experiment_id: str, unit_name: str) -> dict[str, torch.Tensor]:
    """The tensors of a unit's checkpoint; see `Store.read_checkpoint`."""
    key = checkpoint_key(experiment_id, unit_name)
    data = objects.read(key)
    if data is None:
        raise damaged_object(objects, key, "it does not exist")
    try:
        return checkpoints.decode(data)[0]
    except DamagedObject as error:
        raise damaged_object(objects, key, str(error)) from error


def damaged_object(objects: Objects, key: str, reason: str) -> DamagedObject:
    where = f"{objects.location.url}/{key}"
    return DamagedObject(f"{where} is damaged: {reason}; quarantine its unit to compute it anew", key)
