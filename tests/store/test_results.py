from __future__ import annotations

from pathlib import Path

import pytest

import lth.results
from lth.errors import LthError, StoreError
from lth.results import InvalidQuery
from lth.store import LEVELS, MASKS, METRICS, Committed, Store, Unit
from lth.store.curated import compact
from lth.store.objects import Objects
from lth.store.published import version_key
from lth.store.schemas import ROW_KEYS, SCHEMAS
from lth.store.unit import levels_key, unit_key

from .cohorts import EXPERIMENT, tables
from .test_curated import Killed, killed_after

UNITS = [Unit("ticket", 0, 0, (0, 1, 2)), Unit("ticket", 0, 1, (0, 1, 2)), Unit("ticket", 0, 1, (2, 3))]


@pytest.fixture
def filled(store: Store) -> Store:
    for minutes, unit in enumerate(UNITS):
        store.commit(EXPERIMENT, unit, *tables(unit, minutes=minutes))
    store.commit("another", UNITS[0], *tables(UNITS[0], "another"))
    return store


def test_tables_hold_each_row_once(filled: Store) -> None:
    results = lth.results.open(filled.url)
    assert results.experiments == ["another", EXPERIMENT] and results.damaged == {}
    # another: 3 seeds; tiny: 3 at level 0, and 4 (not 5) at level 1. 6 metrics and 2 tensors each.
    assert (results.levels.num_rows, results.metrics.num_rows, results.masks.num_rows) == (10, 60, 20)
    assert (results.levels.schema, results.metrics.schema, results.masks.schema) == (LEVELS, METRICS, MASKS)
    one = lth.results.open(filled.url, EXPERIMENT)
    assert set(one.levels["experiment_id"].to_pylist()) == set(one.masks["experiment_id"].to_pylist()) == {EXPERIMENT}
    assert one.metrics.num_rows == 42


def compared(results: lth.results.Results) -> dict[str, list[dict[str, object]]]:
    """Every table in one order, whole and through SQL."""
    order = {name: ", ".join(("experiment_id", *ROW_KEYS[name])) for name in ("levels", "metrics", "masks")}
    found = {name: results.query(f"SELECT * FROM {name} ORDER BY {keys}").to_pylist() for name, keys in order.items()}
    for name, rows in found.items():
        whole = getattr(results, name)
        assert whole.sort_by([(key, "ascending") for key in order[name].split(", ")]).to_pylist() == rows
        assert whole.schema == SCHEMAS[name]
    return found


def test_what_is_compacted_and_what_is_not_is_read_once_together(store: Store) -> None:
    """Before a compaction, after it, and with units that have landed since."""
    for minutes, unit in enumerate(UNITS[:2]):
        store.commit(EXPERIMENT, unit, *tables(unit, minutes=minutes))
    before = compared(lth.results.open(store.url))
    compact(store)
    assert compared(lth.results.open(store.url)) == before
    store.commit(EXPERIMENT, UNITS[2], *tables(UNITS[2], minutes=2))
    store.commit("another", UNITS[0], *tables(UNITS[0], "another"))
    together = compared(lth.results.open(store.url))
    assert (len(together["levels"]), len(together["metrics"])) == (10, 60)
    assert all(row in together["levels"] for row in before["levels"])
    one = lth.results.open(store.url, "another")
    assert set(one.query("SELECT DISTINCT experiment_id FROM masks").to_pylist()[0].values()) == {"another"}
    compact(store)
    assert compared(lth.results.open(store.url)) == together


def test_objects_of_compacted_units_are_not_read_again(file_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for minutes, unit in enumerate(UNITS):
        file_store.commit(EXPERIMENT, unit, *tables(unit, minutes=minutes))
    compact(file_store)
    late = Unit("reinit", 0, 1, (0, 1))
    file_store.commit(EXPERIMENT, late, *tables(late))
    read: list[str] = []
    original = Objects.read

    def note(objects: Objects, key: str) -> bytes | None:
        read.append(key)
        return original(objects, key)

    monkeypatch.setattr(Objects, "read", note)
    results = lth.results.open(file_store.url)
    assert (results.levels.num_rows, results.metrics.num_rows) == (9, 54)
    assert read[0] == version_key(1) and read[1:] == [
        levels_key(EXPERIMENT, late.name),
        unit_key("metrics", EXPERIMENT, late.name),
    ]


def test_rows_of_a_publication_that_was_killed_do_not_count(file_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    file_store.commit(EXPERIMENT, UNITS[0], *tables(UNITS[0]))
    compact(file_store)
    file_store.commit(EXPERIMENT, UNITS[1], *tables(UNITS[1]))
    killed_after(monkeypatch, 3)  # all files, and no version that lists them
    with pytest.raises(Killed):
        compact(file_store)
    monkeypatch.undo()
    results = lth.results.open(file_store.url)
    assert results.query("SELECT count(*) AS n FROM metrics").to_pylist() == [{"n": 36}]
    assert (results.metrics.num_rows, results.levels.num_rows) == (36, 6)
    assert len(compared(results)["masks"]) == 12


def test_one_line_to_every_library(filled: Store) -> None:
    results = lth.results.open(filled.url, EXPERIMENT)
    assert results.pandas("levels")["seed"].tolist() == results.levels["seed"].to_pylist()
    assert results.polars("masks").height == 14 and results.polars("masks")["total"].sum() == 7 * 21
    with results.duckdb() as connection:
        assert connection.sql("SELECT count(*) FROM metrics JOIN levels USING (arm, level, seed)").fetchall() == [(42,)]
    with pytest.raises(LthError, match="no table 'level'; there is levels, metrics"):
        results.pandas("level")


def test_query(filled: Store) -> None:
    results = lth.results.open(filled.url, EXPERIMENT)
    assert results.query(
        "SELECT level, count(*) AS n, max(test_accuracy) AS best FROM levels GROUP BY ALL ORDER BY ALL"
    ).to_pylist() == [{"level": 0, "n": 3, "best": 0.502}, {"level": 1, "n": 4, "best": 0.503}]
    assert results.query(
        "SELECT count(*) AS n FROM Metrics JOIN levels USING (experiment_id, arm, draw, level, seed)"
    ).to_pylist() == [{"n": 42}]
    assert results.query("SELECT sum(total) AS n FROM masks WHERE level = 1").to_pylist() == [{"n": 4 * 21}]


def test_only_tables_that_are_mentioned_are_read(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = Store.read_table

    def note(store: Store, found: Committed, kind: str) -> object:
        read.append(kind)
        return original(store, found, kind)

    monkeypatch.setattr(Store, "read_table", note)
    results = lth.results.open(filled.url)
    results.query("SELECT 1 FROM levels")
    assert read == []
    results.query("SELECT 1 FROM metrics")
    results.query("SELECT 2 FROM metrics")
    assert read == ["metrics", "metrics"], "once for each of the two experiments"


def test_damaged_objects_are_left_out_and_named(filled: Store) -> None:
    lost, broken = levels_key(EXPERIMENT, UNITS[1].name), unit_key("metrics", EXPERIMENT, UNITS[0].name)
    content = filled.read(broken)
    assert content is not None
    filled.objects.replace(lost, b"")
    filled.objects.replace(broken, bytes(len(content)))
    results = lth.results.open(filled.url)
    assert list(results.damaged) == [lost]
    assert results.levels.num_rows == 3 + 3 + 2
    assert results.metrics.num_rows == 6 * (3 + 2)
    assert list(results.damaged) == [lost, broken]
    assert results.masks.num_rows == 2 * 8 and unit_key("masks", EXPERIMENT, UNITS[0].name) not in results.damaged


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '/etc/hostname'",
        "SELECT * FROM glob('/*')",
        "COPY levels TO '{tmp}/out.csv'",
        "ATTACH '{tmp}/a.db'",
        "SELECT * FROM read_csv('http://127.0.0.1:1/x')",
        "INSTALL httpfs",
        "LOAD httpfs",
        "EXPORT DATABASE '{tmp}/out'",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "SELECT * FROM UNITS",
    ],
)
def test_sql_sees_nothing_but_the_tables(file_store: Store, tmp_path: Path, sql: str) -> None:
    file_store.commit(EXPERIMENT, UNITS[0], *tables(UNITS[0]))
    results = lth.results.open(file_store.url)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InvalidQuery):
        results.query(sql.format(tmp=tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


def test_mistakes_in_sql_are_explained(file_store: Store) -> None:
    file_store.check_writable()
    results = lth.results.open(file_store.url)
    for sql in ("", "-- nothing"):
        with pytest.raises(LthError, match="write a SELECT"):
            results.query(sql)


def test_what_is_not_there_is_named(filled: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"no experiment 'tiny'; it has another, {EXPERIMENT}"):
        lth.results.open(filled.url, "tiny")
    with pytest.raises(StoreError, match="no store at"):
        lth.results.open(tmp_path / "nowhere")


def test_an_empty_store_has_empty_tables(store: Store) -> None:
    store.check_writable()
    results = lth.results.open(store.url)
    assert results.query("SELECT * FROM levels, metrics, masks").num_rows == 0 and results.levels.schema == LEVELS
