"""`lth compact`, `lth delete`, `lth clean`, without a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from store.test_removal import EXPERIMENT, OTHER, fill

from lth.store import Store
from lth.store.curated import Curated

Command = Callable[..., tuple[int, str, str]]


def test_compact_needs_no_server_and_repairs(lth: Command, tmp_path: Path) -> None:
    store = fill(Store(tmp_path / "store"))
    assert lth("compact", "--store", "store")[0] == 0
    [file] = Path(tmp_path, "store/curated/metrics", f"experiment_id={EXPERIMENT}").glob("*.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    status, out, error = lth("query", "SELECT count(*) AS n FROM metrics", "--store", "store", "--format", "csv")
    assert status == 0 and out == '"n"\n48\n' and file.name in error and "lth compact --rebuild" in error
    status, out, error = lth("verify", "--store", "store")
    assert status == 1 and file.name in out
    status, out, _ = lth("compact", "--rebuild", "--store", "store")
    assert status == 0 and "4 rows of levels" in out
    assert lth("verify", "--store", "store")[0] == 0
    assert Curated(store).read("metrics").num_rows == 48


def test_delete_shows_a_plan_and_acts_when_told(lth: Command, tmp_path: Path) -> None:
    store = fill(Store(tmp_path / "store"))
    status, out, _ = lth("delete", EXPERIMENT, "--store", "store")
    assert status == 0 and "nothing has been removed; add --yes" in out and "checkpoints" in out
    assert EXPERIMENT in store.experiments()
    assert lth("delete", EXPERIMENT, "--store", "store", "--yes")[0] == 0
    assert store.experiments() == [OTHER]
    status, out, _ = lth("delete", EXPERIMENT, "--store", "store", "--yes")
    assert status == 0 and "nothing to remove" in out
    status, _, error = lth("delete", "nonsense", "--store", "store", "--yes")
    assert status == 1 and "nonsense" in error
    assert lth("delete", OTHER, "--store", "nowhere")[0] == 1


def test_clean_says_what_will_no_longer_be_there(lth: Command, tmp_path: Path) -> None:
    store = fill(Store(tmp_path / "store"))
    status, out, _ = lth("clean", "--store", "store")
    assert status == 0 and "nothing to remove; say what" in out
    status, out, _ = lth("clean", "--checkpoints", "--progress", "--store", "store")
    assert status == 0 and "rewind points" in out and "add --yes" in out and store.objects.sizes("checkpoints")
    assert lth("clean", "--checkpoints", "--older-than", "30d", "--store", "store", "--yes")[0] == 0
    assert len(store.objects.sizes("checkpoints")) == 4, "they are young"
    status, out, _ = lth("clean", EXPERIMENT, "--checkpoints", "--progress", "--store", "store", "--yes")
    assert status == 0 and "removed" in out
    assert len(store.objects.sizes("checkpoints")) == 2 and len(store.objects.sizes("progress")) == 1
    status, _, error = lth("clean", "--older-than", "a month", "--store", "store")
    assert status == 1 and "no age" in error
