"""What a store says of experiments, sweeps and reports is sealed, or held against its name; and verify goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lth.errors import DamagedObject, LthError
from lth.store import Store, Unit
from lth.store.curated import Curated, compact
from lth.store.unit import experiment_key, levels_key, unit_key
from lth.store.verify import verify

from .cohorts import EXPERIMENT, tables

TEXT = "data_sha256: ab\nmargin: 0.005\n"
KEY = experiment_key(EXPERIMENT)
UNITS = (Unit("ticket", 0, 0, (0, 1)), Unit("reinit", 0, 1, (0, 1)))


@pytest.fixture
def kept(file_store: Store) -> Store:
    file_store.put_experiment(EXPERIMENT, TEXT)
    for unit in UNITS:
        file_store.commit(EXPERIMENT, unit, *tables(unit))
    return file_store


def named(store: Store) -> list[tuple[str, str]]:
    return sorted((each.trouble, each.key) for each in verify(store).findings)


@pytest.mark.parametrize("position", range(0, 8 * 240, 13))
def test_no_flipped_bit_of_a_record_is_believed(kept: Store, position: int) -> None:
    data = bytearray(kept.read(KEY) or b"")
    position %= 8 * len(data)
    data[position // 8] ^= 1 << position % 8
    kept.objects.replace(KEY, bytes(data))
    with pytest.raises(LthError, match=r"experiment\.yaml"):
        kept.describe(EXPERIMENT)


def test_a_margin_that_was_changed_by_hand_is_refused(kept: Store) -> None:
    data = kept.read(KEY) or b""
    kept.objects.replace(KEY, data.replace(b"0.005", b"0.050"))
    with pytest.raises(DamagedObject, match="do not match the SHA-256 in its last line"):
        kept.describe(EXPERIMENT)
    assert named(kept) == [("damaged", KEY)]


def test_a_record_that_was_written_before_is_read_and_said_in_one_line(kept: Store) -> None:
    kept.objects.replace(KEY, TEXT.encode())
    assert kept.describe(EXPERIMENT)["margin"] == 0.005
    found = verify(kept)
    assert found.findings == () and len(found.notes) == 1 and found.notes[0].startswith("not sealed (written before")


def test_a_sweep_is_what_its_name_says(kept: Store) -> None:
    name = kept.put_sweep(EXPERIMENT, {"seeds": "0-4", "levels": 1})
    key = f"experiments/{EXPERIMENT}/sweeps/{name}.json"
    kept.objects.replace(key, json.dumps({"seeds": "0-9", "levels": 1}).encode())
    with pytest.raises(DamagedObject, match="not the record that its name says"):
        kept.sweeps(EXPERIMENT)
    assert named(kept) == [("damaged", key)]


def test_curated_tables_of_before_are_not_believed_and_are_made_anew(kept: Store) -> None:
    """Those that Delta alone speaks of: nothing says that they are what was written."""
    compact(kept)
    for key in [*kept.objects.sizes("curated/published"), *kept.objects.sizes("curated/logs")]:
        kept.objects.delete(key)
    import lth.results

    assert Curated(kept).empty and lth.results.open(kept.url).levels.num_rows == 4
    found = verify(kept)
    assert found.findings == () and "lth compact" in found.notes[0]
    assert compact(kept).added["levels"] == 4
    assert verify(kept).notes == ("3 curated files that are listed no more; a compaction removes them after a day",)
    assert Curated(kept).read("levels").num_rows == 4


def test_whatever_lies_in_a_store_is_named_and_the_reading_goes_on(kept: Store) -> None:
    root = Path(kept.objects.location.root)
    good, bad = UNITS
    metrics, masks = (root / unit_key(kind, EXPERIMENT, bad.name) for kind in ("metrics", "masks"))
    metrics.unlink()
    metrics.mkdir()  # a directory in an object's place
    (metrics / "inside").write_bytes(b"x")
    masks.unlink()
    os.mkfifo(masks)  # reading it would wait for ever
    folder = root / "levels" / f"experiment={EXPERIMENT}"
    os.symlink("loop", folder / "loop")
    os.symlink(root / "levels", folder / "round")
    (folder / "empty.parquet").write_bytes(b"")
    (folder / "a name\nwith a line.parquet").write_bytes(b"x")
    os.mkdir(os.fsencode(folder) + b"/\xff\xfe")
    with open(os.fsencode(folder) + b"/\xff\xfe/undecodable", "wb") as file:
        file.write(b"x")
    with open(folder / "huge.parquet", "wb") as file:
        file.truncate(10**13)
    (root / "progress").mkdir()
    (root / "progress" / f"experiment={EXPERIMENT}").write_bytes(b"a file in a folder's place")
    (root / "experiments" / EXPERIMENT / "sweeps").write_bytes(b"and another")
    found = verify(kept)
    keys = {each.key: each for each in found.findings}
    at = f"levels/experiment={EXPERIMENT}"
    for key in (f"{at}/loop", f"{at}/empty.parquet", f"{at}/a name\nwith a line.parquet", f"{at}/huge.parquet"):
        assert key in keys, key
    assert "more than any object" in keys[f"{at}/huge.parquet"].reason
    for path in (metrics, masks):
        assert keys[str(path.relative_to(root))].trouble == "damaged", path
    assert keys[f"progress/experiment={EXPERIMENT}"].trouble == "damaged"
    assert f"experiments/{EXPERIMENT}/sweeps" in keys
    assert not any(levels_key(EXPERIMENT, good.name) == key for key in keys), "what is sound is not named"
