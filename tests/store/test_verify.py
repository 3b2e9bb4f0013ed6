"""`verify` names every object that is damaged, missing, extra or contradictory, and nothing else."""

from __future__ import annotations

import pytest

from lth.store import Store, Unit
from lth.store.curated import compact
from lth.store.records import decode_levels, encode_levels
from lth.store.unit import UNIT_KINDS, checkpoint_key, levels_key, unit_key
from lth.store.verify import verify

from .cohorts import EXPERIMENT, change, tables
from .test_commits import checkpoint_of

FIRST, SECOND, OVERLAPPING = (
    Unit("ticket", 0, 0, (0, 1, 2)),
    Unit("reinit", 0, 1, (0, 1, 2)),
    Unit("ticket", 0, 0, (2, 3)),
)
DESCRIBED = "data_sha256: ab\nmargin: 0.005\n"


@pytest.fixture
def sound(store: Store) -> Store:
    store.put_experiment(EXPERIMENT, DESCRIBED)
    for unit in (FIRST, SECOND):
        store.commit(EXPERIMENT, unit, *tables(unit), checkpoint_of(unit))
    return store


def found(store: Store) -> list[tuple[str, str]]:
    return sorted((each.trouble, each.key) for each in verify(store).findings)


def test_a_sound_store_has_nothing(sound: Store) -> None:
    sound.commit(EXPERIMENT, OVERLAPPING, *tables(OVERLAPPING, minutes=5))
    told: list[tuple[int, int]] = []
    result = verify(sound, progress=lambda *counts: told.append(counts))
    assert result.findings == () and result.objects == 3 * 3 + 2 and told[-1] == (3, 3)
    sizes = {
        key: size
        for kind in ("levels", "metrics", "masks", "checkpoints")
        for key, size in sound.objects.sizes(kind).items()
    }
    assert result.bytes == sum(sizes.values())
    compact(sound)
    assert verify(sound).findings == ()
    sound.objects.delete(checkpoint_key(EXPERIMENT, FIRST.name))  # no longer needed: no finding
    assert verify(sound, [EXPERIMENT]).findings == ()


@pytest.mark.parametrize("kind", UNIT_KINDS)
def test_a_flipped_bit_anywhere_is_named(sound: Store, kind: str) -> None:
    key = unit_key(kind, EXPERIMENT, SECOND.name)
    content = bytearray(sound.read(key) or b"")
    content[len(content) // 2] ^= 1
    sound.objects.replace(key, bytes(content))
    troubles = found(sound)
    assert ("damaged", key) in troubles
    others = [trouble for trouble in troubles if trouble != ("damaged", key)]
    # Without its levels nothing says that the unit's other objects belong to it: they are in the unit's own name.
    assert others == []


def test_missing_and_extra_objects_are_named(sound: Store) -> None:
    sound.objects.delete(unit_key("metrics", EXPERIMENT, FIRST.name))
    sound.objects.delete(levels_key(EXPERIMENT, SECOND.name))
    sound.objects.replace(f"levels/experiment={EXPERIMENT}/notes.txt", b"mine")
    assert found(sound) == sorted(
        [
            ("missing", unit_key("metrics", EXPERIMENT, FIRST.name)),
            ("extra", f"levels/experiment={EXPERIMENT}/notes.txt"),
            *(("extra", unit_key(kind, EXPERIMENT, SECOND.name)) for kind in ("metrics", "masks", "checkpoints")),
        ]
    )


def test_an_experiment_that_nothing_describes_is_named(file_store: Store) -> None:
    file_store.commit(EXPERIMENT, FIRST, *tables(FIRST))
    key = f"experiments/{EXPERIMENT}/experiment.yaml"
    assert found(file_store) == [("missing", key)]
    file_store.put_experiment(EXPERIMENT, "{half")
    assert found(file_store) == [("damaged", key)]


def test_two_units_that_disagree_are_named(sound: Store) -> None:
    sound.commit(EXPERIMENT, OVERLAPPING, *tables(OVERLAPPING, minutes=5, accuracy=0.1))
    findings = verify(sound).findings
    assert [(each.trouble, each.key) for each in findings] == [
        ("contradictory", levels_key(EXPERIMENT, OVERLAPPING.name))
    ]
    assert FIRST.name in findings[0].reason


def test_levels_that_speak_of_another_mask_are_named(sound: Store) -> None:
    """The objects are whole, each by itself; only together they cannot be true."""
    key = levels_key(EXPERIMENT, FIRST.name)
    data = sound.read(key)
    assert data is not None
    levels, record = decode_levels(data, FIRST.name)
    for column, value, said in (
        ("mask_sha256", "0" * 64, "the mask is not the one"),
        ("weights_remaining", 1, "the mask is not the one"),
        ("val_accuracy_at_early_stop", 0.25, "0.25 in levels and 0.5 in metrics"),
    ):
        sound.objects.replace(key, encode_levels(change(levels, column, 1, value), record))
        findings = verify(sound).findings
        assert [(each.trouble, each.key) for each in findings] == [("contradictory", key)]
        assert findings[0].reason.startswith("seed 1") and said in findings[0].reason


def test_curated_rows_that_are_not_the_landed_ones_are_named(file_store: Store) -> None:
    file_store.put_experiment(EXPERIMENT, DESCRIBED)
    for unit in (FIRST, SECOND):
        file_store.commit(EXPERIMENT, unit, *tables(unit))
    compact(file_store)
    file_store.quarantine_unit(EXPERIMENT, SECOND.name)
    key = f"curated/levels/experiment_id={EXPERIMENT}"
    assert found(file_store) == [("contradictory", key)]
    file_store.commit(EXPERIMENT, SECOND, *tables(SECOND, accuracy=0.1))
    assert found(file_store) == [("contradictory", key)]
