"""Analysis tables: written under their content's hash, read together, each row once; and stores of version 1."""

from __future__ import annotations

import pyarrow as pa
import pytest

import lth.results
from lth.errors import StoreError
from lth.store import LEVELS, Store, Unit
from lth.store.columns import SCHEMA_VERSION
from lth.store.parquet import decode, encode
from lth.store.schemas import ANALYSIS_SCHEMAS, LAYERS, ROW_KEYS

from .cohorts import EXPERIMENT, tables


def layers(seed: int, dead: int = 1, experiment: str = EXPERIMENT) -> pa.Table:
    row = {
        "experiment_id": experiment,
        "arm": "ticket",
        "seed": seed,
        "draw": 0,
        "level": 1,
        "tensor": "w",
        "remaining": 3,
        "total": 10,
        "density": 0.3,
        "effective": 2,
        "effective_density": 0.2,
        "units": 4,
        "dead_units": dead,
        "flops": 6,
    }
    return pa.Table.from_pylist([row], LAYERS)


def test_the_same_rows_make_one_object_and_others_another(store: Store) -> None:
    first = store.put_analysis("layers", EXPERIMENT, layers(0))
    assert store.put_analysis("layers", EXPERIMENT, layers(0)) == first
    assert store.put_analysis("layers", EXPERIMENT, layers(1)) != first
    rows, damaged = store.read_analysis("layers", EXPERIMENT)
    assert sorted(rows["seed"].to_pylist()) == [0, 1] and damaged == {} and rows.schema == LAYERS


def test_rows_that_several_objects_hold_are_read_once(store: Store) -> None:
    store.put_analysis("layers", EXPERIMENT, layers(0))
    store.put_analysis("layers", EXPERIMENT, pa.concat_tables([layers(0), layers(1)]))
    rows, _ = store.read_analysis("layers", EXPERIMENT)
    assert sorted(rows["seed"].to_pylist()) == [0, 1]


def test_a_damaged_object_is_named_left_out_and_written_anew(store: Store) -> None:
    key = store.put_analysis("layers", EXPERIMENT, layers(0))
    store.put_analysis("layers", EXPERIMENT, layers(1))
    whole = store.read(key)
    assert whole is not None
    store.objects.replace(key, whole[:-50])
    rows, damaged = store.read_analysis("layers", EXPERIMENT)
    assert rows["seed"].to_pylist() == [1] and list(damaged) == [key]
    assert store.put_analysis("layers", EXPERIMENT, layers(0)) == key
    rows, damaged = store.read_analysis("layers", EXPERIMENT)
    assert sorted(rows["seed"].to_pylist()) == [0, 1] and damaged == {}


def test_rows_of_another_experiment_or_none_are_refused(store: Store) -> None:
    for table in (layers(0, experiment="other-0123456789"), LAYERS.empty_table()):
        with pytest.raises(StoreError, match="tiny-0123456789"):
            store.put_analysis("layers", EXPERIMENT, table)


def test_results_offer_every_analysis_to_python_and_sql(store: Store) -> None:
    unit = Unit("ticket", 0, 0, (0, 1))
    store.commit(EXPERIMENT, unit, *tables(unit))
    store.put_analysis("layers", EXPERIMENT, layers(0, dead=4))
    results = lth.results.open(store.url)
    assert results.layers["dead_units"].to_pylist() == [4]
    assert results.overlap.num_rows == results.connectivity.num_rows == 0
    assert results.query("SELECT sum(dead_units) AS dead FROM layers").to_pylist() == [{"dead": 4}]
    assert set(ANALYSIS_SCHEMAS) <= set(ROW_KEYS)


def test_levels_of_version_1_are_still_read() -> None:
    unit = Unit("ticket", 0, 0, (0, 1))
    table, _, _ = tables(unit)
    old = table.drop_columns(["parameters", "flops", "latency_seconds"])
    data = encode(old, {"unit": unit.name, "schema_version": "1"})
    found, metadata = decode(data, "levels")
    assert metadata["schema_version"] == "1" and SCHEMA_VERSION == "3" and found.schema == LEVELS
    assert found["flops"].to_pylist() == [None, None]
    assert found["test_accuracy"].to_pylist() == table["test_accuracy"].to_pylist()
