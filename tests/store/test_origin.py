"""What a unit was computed with: recorded, no part of the result, named where results differ, and counted."""

from __future__ import annotations

import pyarrow as pa
import pytest

import lth.results
from lth.errors import NotDeterministic
from lth.store import Store, Unit
from lth.store.curated import compact
from lth.store.origin_columns import NAMES, kinds_line
from lth.store.unit import unit_key
from lth.store.verify import verify

from .cohorts import EXPERIMENT, change, tables
from .test_scores import metadata_of

UNIT = Unit("ticket", 0, 1, (0, 1))
OTHERS = Unit("ticket", 0, 1, (1, 2))


def computed_with(unit: Unit, accuracy: float = 0.0, **origin: object) -> tuple[pa.Table, pa.Table, pa.Table]:
    levels, metrics, masks = tables(unit, accuracy=accuracy)
    for name, value in {"instructions": "AVX2", "torch": "2.13.0", "engine": "1", **origin}.items():
        for row in range(levels.num_rows):
            levels = change(levels, name, row, value)
    return levels, metrics, masks


@pytest.fixture
def store(file_store: Store) -> Store:
    file_store.put_experiment(EXPERIMENT, "name: tiny\ndata_sha256: '0'\n")
    return file_store


def test_they_are_stored_and_read_back(store: Store) -> None:
    store.commit(EXPERIMENT, UNIT, *computed_with(UNIT))
    assert metadata_of(store.read(unit_key("levels", EXPERIMENT, UNIT.name)))["schema_version"] == "6"
    assert metadata_of(store.read(unit_key("metrics", EXPERIMENT, UNIT.name)))["schema_version"] == "3"
    rows = lth.results.open(store.url).levels.select(NAMES).to_pylist()
    assert rows == [{"instructions": "AVX2", "torch": "2.13.0", "engine": "1"}] * 2
    assert not verify(store).findings


def test_they_are_no_part_of_the_result(store: Store) -> None:
    assert store.commit(EXPERIMENT, UNIT, *computed_with(UNIT))
    assert not store.commit(EXPERIMENT, UNIT, *computed_with(UNIT, torch="2.14.0", instructions="AVX512", threads=2))
    assert not store.commit(EXPERIMENT, UNIT, *tables(UNIT))  # as units were written before


def test_units_of_before_and_after_are_in_one_table_curated_or_not(store: Store) -> None:
    store.commit(EXPERIMENT, UNIT, *tables(UNIT))
    compact(store)
    later = Unit("ticket", 0, 2, (0, 1))
    store.commit(EXPERIMENT, later, *computed_with(later))
    for _ in range(2):
        results = lth.results.open(store.url)
        assert results.query("SELECT level, torch FROM levels WHERE seed = 0 ORDER BY level").to_pylist() == [
            {"level": 1, "torch": None},
            {"level": 2, "torch": "2.13.0"},
        ]
        assert results.levels["engine"].to_pylist() == [None, None, "1", "1"]
        compact(store)
    assert not verify(store).findings


def test_another_result_names_what_it_was_computed_with(store: Store) -> None:
    store.commit(EXPERIMENT, UNIT, *computed_with(UNIT, instructions="AVX512", threads=2))
    with pytest.raises(NotDeterministic) as raised:
        store.commit(EXPERIMENT, UNIT, *computed_with(UNIT, accuracy=0.001))
    assert str(raised.value) == (
        f"unit {UNIT.name}: its levels differ in test_accuracy from what an earlier run of the same seeds left at "
        f"{store.url}/levels/experiment={EXPERIMENT}/{UNIT.name}.parquet: the stored one was computed with "
        "instructions AVX512 and threads 2, this one with instructions AVX2 and threads 1; compute as it was, or "
        "quarantine the unit to compute it anew"
    )


def test_another_result_of_the_same_machine_says_that_something_else_decides(store: Store) -> None:
    store.commit(EXPERIMENT, UNIT, *computed_with(UNIT))
    with pytest.raises(NotDeterministic, match="the same, so something else decides: .* random numbers of its own"):
        store.commit(EXPERIMENT, UNIT, *computed_with(UNIT, accuracy=0.001))


def test_verify_says_what_two_units_that_differ_were_computed_with(store: Store) -> None:
    store.commit(EXPERIMENT, UNIT, *computed_with(UNIT))
    store.commit(EXPERIMENT, OTHERS, *computed_with(OTHERS, accuracy=0.001, threads=2))
    (finding,) = verify(store).findings
    assert finding.trouble == "contradictory"
    assert finding.reason == (
        f"of seeds that both hold it says something else than unit {UNIT.name}: that was computed with threads 1, this "
        "with threads 2; remove one"
    )


def test_a_table_of_several_kinds_says_so_with_counts() -> None:
    levels = pa.concat_tables(
        [
            computed_with(Unit("ticket", 0, 0, (0, 1, 2)))[0],
            computed_with(UNIT, threads=2)[0],
            tables(Unit("ticket", 0, 2, (0,)))[0],
        ]
    )
    assert kinds_line(levels) == (
        "trainings were not all computed alike, and may differ in their last bits: 3 with AVX2, 1 thread, torch "
        "2.13.0, engine 1; 2 with AVX2, 2 threads, torch 2.13.0, engine 1; 1 with instructions not recorded, 1 thread, "
        "torch and engine not recorded"
    )
    assert kinds_line(levels.slice(0, 3)) is None and kinds_line(levels.slice(0, 0)) is None
