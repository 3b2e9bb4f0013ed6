"""Curated tables: everything that is committed, exactly once, whatever happens to a publication."""

from __future__ import annotations

import datetime
import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest

import lth.results
from lth.errors import StoreError
from lth.store import RESULT_COLUMNS, Store, Unit, content_hash, delta_log
from lth.store.curated import Curated, compact
from lth.store.local_files import LocalFiles
from lth.store.objects import Objects
from lth.store.schemas import ROW_KEYS, SCHEMAS
from lth.store.verify import verify

from .cohorts import EXPERIMENT, tables
from .conftest import QUICK

KINDS = ("levels", "metrics", "masks")


def land(store: Store, *units: Unit, experiment_id: str = EXPERIMENT) -> None:
    store.put_experiment(experiment_id, "data_sha256: ab\n")
    for minutes, unit in enumerate(units):
        store.commit(experiment_id, unit, *tables(unit, experiment_id, minutes=minutes))


def assert_curated_is_committed(store: Store, *experiments: str) -> None:
    """Every landed row is in the curated tables once, and nothing else is."""
    for kind in KINDS:
        landed = []
        for experiment_id in experiments or (EXPERIMENT,):
            found = store.committed(experiment_id)
            landed.append(found.rows if kind == "levels" else store.read_table(found, kind)[0])
        curated = Curated(store).read(kind)
        assert curated.schema.equals(SCHEMAS[kind])
        columns = RESULT_COLUMNS if kind == "levels" else SCHEMAS[kind].names
        assert curated.num_rows == sum(table.num_rows for table in landed)
        order = [(name, "ascending") for name in ("experiment_id", *ROW_KEYS[kind])]
        expected = pa.concat_tables(landed).sort_by(order)  # the hash keeps the order of rows of one seed and step
        assert content_hash(curated.sort_by(order), columns) == content_hash(expected, columns)


def test_all_that_landed_is_published_once_again_and_again(store: Store) -> None:
    land(store, Unit("ticket", 0, 0, (0, 1)), Unit("reinit", 0, 1, (0, 1)))
    assert compact(store).added == {"levels": 4, "metrics": 24, "masks": 8}
    assert_curated_is_committed(store)
    assert compact(store).added == dict.fromkeys(KINDS, 0)
    land(store, Unit("ticket", 0, 0, (2,)))
    land(store, Unit("ticket", 0, 0, (0,)), experiment_id="other-0123456789")
    assert compact(store).added == {"levels": 2, "metrics": 12, "masks": 4}
    assert_curated_is_committed(store, EXPERIMENT, "other-0123456789")


def test_a_seed_that_two_units_hold_is_published_once(file_store: Store) -> None:
    land(file_store, Unit("ticket", 0, 0, (0, 1)))
    compact(file_store)
    land(file_store, Unit("ticket", 0, 0, (0, 1)), Unit("ticket", 0, 0, (1, 2)))
    assert compact(file_store).added["levels"] == 1
    assert_curated_is_committed(file_store)


def test_batches_bound_what_is_read_at_a_time(file_store: Store) -> None:
    land(file_store, *(Unit("ticket", 0, level, (0,)) for level in range(5)))
    assert compact(file_store, units_at_once=2).added["levels"] == 5
    assert len(deltalake.DeltaTable(f"{file_store.url}/curated/levels").file_uris()) == 3
    assert_curated_is_committed(file_store)


class Killed(BaseException):
    """Where a process ends without a word."""


WRITES = ("create", "replace", "delete")


def killed_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> list[str]:
    """The next writes to any store: after so many of them the process is killed. Returns what they were."""
    done: list[str] = []

    def counted(name: str) -> Callable[..., object]:
        real = getattr(LocalFiles, name)

        def write(self: LocalFiles, key: str, *content: bytes) -> object:
            if len(done) == writes:
                raise Killed
            done.append(f"{name} {key}")
            return real(self, key, *content)

        return write

    for name in WRITES:
        monkeypatch.setattr(LocalFiles, name, counted(name))
    commit = delta_log._commit

    def counted_commit(objects: Objects, kind: str, *rest: object) -> None:
        if len(done) == writes:
            raise Killed
        done.append(f"commit {kind}")
        commit(objects, kind, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(delta_log, "_commit", counted_commit)
    return done


def killed_at_every_write(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Store]) -> Iterator[Store]:
    """Fresh stores, each left by a compaction that was killed one write later; the last is not killed."""
    for writes in range(100):
        store = make()
        killed_after(monkeypatch, writes)
        try:
            compact(store)
        except Killed:
            monkeypatch.undo()
            yield store
        else:
            monkeypatch.undo()
            assert writes >= 9, "three files, a version, and three logs with their seals"
            return
    raise AssertionError("it writes without end")


def test_a_publication_that_is_killed_anywhere_loses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Store(tmp_path / "begun")
    land(begun, Unit("ticket", 0, 0, (0, 1)))
    compact(begun)
    land(begun, Unit("ticket", 0, 1, (0, 1)))
    numbers = iter(range(100))

    def make() -> Store:
        folder = tmp_path / f"store{next(numbers)}"
        shutil.copytree(tmp_path / "begun", folder)
        return Store(folder)

    for store in killed_at_every_write(monkeypatch, make):
        results = lth.results.open(store.url)
        assert results.levels.num_rows == 4 and results.metrics.num_rows == 24 and results.masks.num_rows == 8
        assert results.damaged == {}
        found = [each for each in verify(store).findings if each.key.startswith("curated/")]
        assert {each.trouble for each in found} <= {"extra"}
        compact(store)
        assert_curated_is_committed(store)
        assert_delta_is_published(store)
        left = [each.key for each in verify(store).findings if each.key.startswith("curated/")]
        assert all(key.endswith(".parquet") for key in left), "files that were never listed stay for a day"


def assert_delta_is_published(store: Store) -> None:
    """What other programs read is what is published."""
    for kind in KINDS:
        rows = deltalake.DeltaTable(f"{store.url}/curated/{kind}").to_pyarrow_table()
        assert rows.num_rows == Curated(store).read(kind).num_rows


def test_what_a_killed_publication_left_is_removed_after_a_day(
    file_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(file_store, Unit("ticket", 0, 0, (0, 1)))
    killed_after(monkeypatch, 2)
    with pytest.raises(Killed):
        compact(file_store)
    monkeypatch.undo()

    def files() -> int:
        return sum(key.endswith(".parquet") for key in file_store.objects.sizes("curated"))

    assert files() == 2
    compact(file_store)
    compact(file_store)
    assert files() == 5
    from lth.store import curated

    monkeypatch.setattr(curated, "_ABANDONED_AFTER", datetime.timedelta(seconds=-1))
    compact(file_store)
    assert files() == 3
    assert_curated_is_committed(file_store)


def _compact_in_a_process(url: str, start: object, answers: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    try:
        answers.put(compact(Store(url)).added["levels"])  # type: ignore[attr-defined]
    except StoreError as error:
        answers.put(str(error))  # type: ignore[attr-defined]


def test_writers_at_the_same_time_publish_nothing_twice(file_store: Store) -> None:
    land(file_store, *(Unit("ticket", 0, level, (0, 1)) for level in range(6)))
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(3), context.Queue()
    writers = [context.Process(target=_compact_in_a_process, args=(file_store.url, start, answers)) for _ in range(3)]
    for writer in writers:
        writer.start()
    found = [answers.get(timeout=120) for _ in writers]
    for writer in writers:
        writer.join()
    assert sum(count for count in found if isinstance(count, int)) == 12, found
    assert_curated_is_committed(file_store)


def test_a_store_without_results_has_no_curated_tables(file_store: Store) -> None:
    assert compact(file_store).added == dict.fromkeys(KINDS, 0)
    assert Curated(file_store).empty


def test_a_damaged_unit_is_set_aside_and_the_others_are_published(file_store: Store, tmp_path: Path) -> None:
    land(file_store, Unit("ticket", 0, 0, (0,)), Unit("ticket", 0, 0, (1,)))
    [damaged] = Path(tmp_path, "store", "masks").rglob("ticket-L00-s0-0*.parquet")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 3] ^= 1
    damaged.write_bytes(content)
    done = compact(file_store)
    assert done.added["levels"] == 1 and [key.rsplit("/", 1)[1] for key in done.damaged] == [damaged.name]
    assert_curated_is_committed(file_store)
    land(file_store, Unit("ticket", 0, 0, (0,)))  # its sweep does it anew
    assert compact(file_store).added["levels"] == 1
    assert_curated_is_committed(file_store)


def test_what_was_set_aside_after_it_was_published_is_withdrawn(store: Store) -> None:
    units = [Unit("ticket", 0, 0, (0, 1)), Unit("ticket", 0, 0, (2,)), Unit("reinit", 0, 1, (0,))]
    land(store, *units)
    compact(store)
    for unit in units[1:]:
        store.quarantine_unit(EXPERIMENT, unit.name)
    land(store, units[2])  # done anew, with the same results
    assert compact(store).added["levels"] == 3  # the others of their batch
    assert_curated_is_committed(store)
    assert compact(store).added == dict.fromkeys(KINDS, 0)
    assert (
        lth.results.open(store.url).query("SELECT count(*) AS n FROM metrics WHERE arm = 'ticket'")["n"][0].as_py()
        == 2 * 6
    )
    assert not [found for found in verify(store).findings if found.trouble == "contradictory"]
    land(store, units[1])
    assert compact(store).added["levels"] == 1
    assert_curated_is_committed(store)


def test_what_was_done_anew_with_other_results_replaces_what_was_published(file_store: Store) -> None:
    unit = Unit("ticket", 0, 0, (0, 1))
    land(file_store, unit)
    compact(file_store)
    file_store.quarantine_unit(EXPERIMENT, unit.name)
    levels, metrics, masks = tables(unit, EXPERIMENT)
    place = levels.schema.get_field_index("test_loss")
    file_store.commit(
        EXPERIMENT,
        unit,
        levels.set_column(place, levels.schema.field(place), pa.array([9.0, 9.0], levels["test_loss"].type)),
        metrics,
        masks,
    )
    assert compact(file_store).added["levels"] == 2
    assert_curated_is_committed(file_store)


@pytest.mark.parametrize("again", [False, True])
def test_a_withdrawal_that_is_killed_is_finished_by_the_next(
    file_store: Store, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = [Unit("ticket", 0, 0, (0, 1)), Unit("ticket", 0, 0, (2,))]
    land(file_store, *units)
    compact(file_store)
    file_store.quarantine_unit(EXPERIMENT, units[0].name)

    killed_after(monkeypatch, 1)  # the version without it
    with pytest.raises(Killed):
        compact(file_store)
    monkeypatch.undo()
    for kind in ("levels", "metrics"):  # what was taken back with it is read from where it landed
        rows = getattr(lth.results.open(file_store.url, EXPERIMENT), kind)
        assert set(rows["seed"].to_pylist()) == {2} and rows.num_rows == {"levels": 1, "metrics": 6}[kind]
    if again:  # the sweep does it anew before the next compaction, with the same results
        land(file_store, units[0])
    compact(file_store)
    assert_curated_is_committed(file_store)


def test_a_withdrawal_leaves_what_was_never_published_apart(file_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a killed publication lie in files of their own, also after a withdrawal."""
    units = [Unit("ticket", 0, 0, (0,)), Unit("ticket", 0, 0, (1,)), Unit("ticket", 0, 0, (2,))]
    land(file_store, *units)
    killed_after(monkeypatch, 2)
    with pytest.raises(Killed):
        compact(file_store)
    monkeypatch.undo()
    compact(file_store)
    file_store.quarantine_unit(EXPERIMENT, units[1].name)
    compact(file_store)
    assert_curated_is_committed(file_store)


def test_a_column_that_is_new_is_null_in_what_was_published_before(
    file_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(file_store, Unit("ticket", 0, 0, (0,)))
    from lth.store import curated as module

    encoded = module._encoded

    def older(rows: pa.Table) -> bytes:
        return encoded(rows.drop_columns([name for name in ("flops",) if name in rows.column_names]))

    monkeypatch.setattr(module, "_encoded", older)
    compact(file_store)
    monkeypatch.undo()
    land(file_store, Unit("ticket", 0, 0, (1,)))
    assert compact(file_store).added["levels"] == 1
    curated = Curated(file_store).read("levels")
    assert curated.num_rows == 2 and curated["flops"].null_count >= 1


def test_a_store_that_does_not_answer_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a-key-id",
        "AWS_SECRET_ACCESS_KEY": "PLANTED-SECRET",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    store = Store("s3://bucket/prefix", retries=QUICK)
    for action in (lambda: compact(store), lambda: Curated(store).read("levels")):
        with pytest.raises(StoreError) as said:
            action()
        assert "\n" not in str(said.value) and "PLANTED" not in str(said.value)


@pytest.mark.parametrize("name", ["c#6", "sp ace #x", "Zürich"])
def test_a_folder_of_any_name_holds_its_own_curated_tables(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / name / "store")
    land(store, Unit("ticket", 0, 0, (0, 1)))
    compact(store)
    assert [folder.name for folder in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "store" / "curated" / "levels" / "_delta_log").is_dir()
    assert_curated_is_committed(store)


def test_a_folder_that_delta_rs_would_mistake_is_refused_and_still_read(tmp_path: Path) -> None:
    store = Store(tmp_path / "c%205")
    land(store, Unit("ticket", 0, 0, (0, 1)))
    with pytest.raises(StoreError, match="cannot lie in a folder with '%' in its name; rename it"):
        compact(store)
    assert lth.results.open(store.url).levels.num_rows == 2
    assert [folder.name for folder in tmp_path.iterdir()] == ["c%205"]


def test_a_process_that_has_read_curated_tables_ends_in_peace(tmp_path: Path) -> None:
    """With delta-rs' own file system one in three aborted at its end, its work done."""
    store = Store(tmp_path)
    land(store, *(Unit("ticket", 0, 0, (seed,)) for seed in range(12)))
    code = (
        "import sys; from lth.store import Store; from lth.store.curated import compact; import lth.results\n"
        "store = Store(sys.argv[1]); compact(store, units_at_once=3); compact(store)\n"
        "lth.results.open(store.url).query('SELECT count(*) FROM metrics')"
    )
    for _ in range(4):
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
