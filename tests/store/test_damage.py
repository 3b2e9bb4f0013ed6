from __future__ import annotations

import random

import pytest

from lth.errors import DamagedObject
from lth.store import Store, Unit, checkpoints, parquet
from lth.store.records import decode_levels
from lth.store.unit import checkpoint_key, levels_key, unit_key

from .cohorts import EXPERIMENT, tables
from .test_commits import checkpoint_of

GOOD, BAD = Unit("ticket", 0, 1, (0, 1, 2)), Unit("ticket", 0, 1, (5, 6))


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


DAMAGE = {
    "truncated": lambda data: data[:-10],
    "half": lambda data: data[: len(data) // 2],
    "flipped": lambda data: flipped(data, 8 * (len(data) // 3)),
    "empty": lambda data: b"",
    "foreign": lambda data: random.Random(0).randbytes(len(data)),
    "text": lambda data: b"<html>503</html>",
}


EVERY_DAMAGE = pytest.mark.parametrize(
    ("store", "damage"),
    [*(("file", damage) for damage in DAMAGE), ("s3", "truncated"), ("s3", "flipped")],
    indirect=["store"],
)
"""All of it on a disk; on S3, where each case takes a second, one that shows in the size and one that does not."""


def overwrite(store: Store, key: str, content: bytes) -> None:
    store.objects.replace(key, content)


@pytest.fixture
def damaged_store(store: Store) -> Store:
    for unit in (GOOD, BAD):
        store.commit(EXPERIMENT, unit, *tables(unit), checkpoint_of(unit))
    return store


@EVERY_DAMAGE
def test_damaged_levels_are_named_and_the_others_stay(damaged_store: Store, damage: str) -> None:
    store, key = damaged_store, levels_key(EXPERIMENT, BAD.name)
    content = store.read(key)
    assert content is not None
    overwrite(store, key, DAMAGE[damage](content))
    found = store.committed(EXPERIMENT)
    assert found.rows.equals(tables(GOOD)[0]) and list(found.damaged) == [key] and found.damaged[key]
    with pytest.raises(DamagedObject, match=key):
        store.seeds_of(EXPERIMENT, BAD.name)
    with pytest.raises(DamagedObject, match=key):
        store.read_masks(EXPERIMENT, {5: BAD.name})
    store.quarantine_unit(EXPERIMENT, BAD.name)
    assert store.commit(EXPERIMENT, BAD, *tables(BAD), checkpoint_of(BAD))
    found = store.committed(EXPERIMENT)
    assert found.damaged == {} and found.rows["seed"].to_pylist() == [0, 1, 2, 5, 6]


@pytest.mark.parametrize("kind", ["metrics", "masks"])
@EVERY_DAMAGE
def test_damaged_metrics_and_masks_are_named(damaged_store: Store, kind: str, damage: str) -> None:
    store, key = damaged_store, unit_key(kind, EXPERIMENT, BAD.name)
    content = store.read(key)
    assert content is not None
    broken = DAMAGE[damage](content)
    overwrite(store, key, broken)
    found = store.committed(EXPERIMENT)
    if len(broken) != len(content):
        assert list(found.damaged) == [key], "another size shows in the listing"
        assert found.rows.equals(tables(GOOD)[0]) and BAD.name not in found.units
    else:
        assert found.damaged == {}, "the content is checked when it is read"
        table, damaged = store.read_table(found, kind)
        assert list(damaged) == [key] and set(table["seed"].to_pylist()) == {0, 1, 2}
    if kind == "masks":
        with pytest.raises(DamagedObject, match=key):
            store.read_masks(EXPERIMENT, {0: GOOD.name, 5: BAD.name})
    # Computing the unit again mends it, with or without quarantine first.
    store.commit(EXPERIMENT, BAD, *tables(BAD, minutes=3), checkpoint_of(BAD))
    found = store.committed(EXPERIMENT)
    assert found.damaged == {} and len(found.where) == 5 and store.read_table(found, kind)[1] == {}


@pytest.mark.parametrize("kind", ["metrics", "masks"])
def test_units_without_their_objects_are_not_committed(damaged_store: Store, kind: str) -> None:
    key = unit_key(kind, EXPERIMENT, BAD.name)
    damaged_store.objects.delete(key)
    found = damaged_store.committed(EXPERIMENT)
    assert list(found.damaged) == [key] and "missing" in found.damaged[key] and list(found.units) == [GOOD.name]
    damaged_store.commit(EXPERIMENT, BAD, *tables(BAD))
    assert damaged_store.committed(EXPERIMENT).damaged == {}


@EVERY_DAMAGE
def test_damaged_checkpoints_are_named(damaged_store: Store, damage: str) -> None:
    store, key = damaged_store, checkpoint_key(EXPERIMENT, BAD.name)
    content = store.read(key)
    assert content is not None
    overwrite(store, key, DAMAGE[damage](content))
    with pytest.raises(DamagedObject, match=key):
        store.read_checkpoint(EXPERIMENT, BAD.name)
    assert store.committed(EXPERIMENT).damaged == {}, "checkpoints may be removed, so they do not decide"


def test_objects_under_wrong_names_are_named(damaged_store: Store) -> None:
    store = damaged_store
    content = store.read(levels_key(EXPERIMENT, GOOD.name))
    assert content is not None
    folder = f"levels/experiment={EXPERIMENT}"
    strangers = [
        levels_key(EXPERIMENT, "ticket-L01-s0-2-00000000"),
        levels_key("another", GOOD.name),
        f"{folder}/notes.txt",
        f"{folder}/deeper/{GOOD.name}.parquet",
    ]
    for key in strangers:
        store.create(key, content)
    found = store.committed(EXPERIMENT)
    assert set(found.damaged) == {strangers[0], *strangers[2:]} and len(found.where) == 5
    assert list(store.committed("another").damaged) == [strangers[1]]


def test_files_with_impossible_names_are_named(file_store: Store) -> None:
    file_store.commit(EXPERIMENT, GOOD, *tables(GOOD))
    from pathlib import Path

    folder = Path(file_store.objects.location.root) / "levels" / f"experiment={EXPERIMENT}"
    (folder / "a copy of it.parquet").write_bytes(b"x")
    found = file_store.committed(EXPERIMENT)
    assert list(found.damaged) == [f"levels/experiment={EXPERIMENT}/a copy of it.parquet"] and len(found.where) == 3


@pytest.mark.parametrize("kind", ["levels", "metrics", "masks", "checkpoints"])
def test_no_flipped_bit_passes_unnoticed(file_store: Store, kind: str) -> None:
    file_store.commit(EXPERIMENT, BAD, *tables(BAD), checkpoint_of(BAD))
    data = file_store.read(unit_key(kind, EXPERIMENT, BAD.name))
    assert data is not None
    decode = {"levels": lambda found: decode_levels(found, BAD.name), "checkpoints": checkpoints.decode}.get(
        kind, lambda found: parquet.decode(found, kind)
    )
    decode(data)
    for bit in range(0, 8 * len(data), 8 * len(data) // 500 | 1):  # odd steps, so that every bit of a byte has its turn
        with pytest.raises(DamagedObject):
            decode(flipped(data, bit))
