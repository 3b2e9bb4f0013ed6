"""Units of other scores than accuracy, and those of accuracy as they have always been, in one store."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lth.results
from lth.errors import DamagedObject, NotDeterministic, StoreError
from lth.store import LEVELS, METRICS, Store, Unit, conform, content_hash, parquet, result_columns, with_scores
from lth.store.curated import compact
from lth.store.schemas import SCHEMAS
from lth.store.score_columns import SCORES_OF
from lth.store.unit import unit_key
from lth.store.verify import verify

from . import version_3
from .cohorts import EXPERIMENT, change, tables
from .test_curated import KINDS, assert_curated_is_committed
from .test_results import compared

UNIT = Unit("ticket", 0, 1, (3, 4, 11))
OTHER = "others-0123456789"


def metadata_of(data: bytes | None) -> dict[str, str]:
    assert data is not None
    found = pq.read_metadata(pa.BufferReader(data)).metadata
    order = ("unit", "seeds", "content_sha256", "objects", "schema_version", "file_sha256")  # as they are written
    return {name: found[name.encode()].decode() for name in order if name.encode() in found}


def land(store: Store, unit: Unit = UNIT, score: str = "accuracy", accuracy: float = 0.0) -> None:
    experiment_id = EXPERIMENT if score == "accuracy" else OTHER
    store.put_experiment(experiment_id, "name: tiny\ndata_sha256: '0'\n")
    store.commit(experiment_id, unit, *tables(unit, experiment_id, score=score, accuracy=accuracy))


@pytest.mark.parametrize("kind", ["levels", "metrics"])
def test_units_of_accuracy_are_written_as_ever(file_store: Store, kind: str) -> None:
    """The same bytes, by the encoder of the time before there were scores."""
    land(file_store)
    data = file_store.read(unit_key(kind, EXPERIMENT, UNIT.name))
    metadata = metadata_of(data)
    assert metadata.pop("file_sha256") and metadata.pop("schema_version") == "3"
    assert data == version_3.encode(kind, tables(UNIT)[KINDS.index(kind)], metadata)


def test_hashes_of_accuracies_are_what_they_were() -> None:
    # Computed by the code of the time before there were scores.
    levels, metrics, _ = tables(UNIT)
    assert content_hash(levels, result_columns("levels", levels)) == (
        "4564c53bedd1ad4b5f4b09af7cee04eebcea575e3b89785c90cf9908c9856f80"
    )
    assert content_hash(metrics, result_columns("metrics", metrics)) == (
        "efcf969bd8b92e57f342cc9c827162ca59aa1852339308a448da46117cc82279"
    )


@pytest.mark.parametrize("kind", ["levels", "metrics"])
def test_objects_of_version_3_say_that_their_score_is_accuracy(kind: str) -> None:
    table = tables(UNIT)[KINDS.index(kind)]
    found, metadata = parquet.decode(version_3.encode(kind, table, {}), kind)
    assert metadata["schema_version"] == "3" and found.schema.equals(SCHEMAS[kind], check_metadata=True)
    assert set(found["score"].to_pylist()) == {"accuracy"}
    for name, accuracy in SCORES_OF.items():
        if name in found.column_names:
            assert found[name].to_pylist() == found[accuracy].to_pylist() == table[accuracy].to_pylist()


def test_a_unit_of_version_3_agrees_with_its_repetition(file_store: Store) -> None:
    land(file_store)
    for kind in ("metrics", "levels"):
        data = file_store.read(unit_key(kind, EXPERIMENT, UNIT.name))
        metadata = {name: text for name, text in metadata_of(data).items() if name != "file_sha256"}
        old = version_3.encode(kind, tables(UNIT)[KINDS.index(kind)], metadata)
        file_store.objects.delete(unit_key(kind, EXPERIMENT, UNIT.name))
        assert file_store.objects.create(unit_key(kind, EXPERIMENT, UNIT.name), old)
    assert not file_store.commit(EXPERIMENT, UNIT, *tables(UNIT, minutes=7))
    with pytest.raises(NotDeterministic, match="in test_accuracy "):
        file_store.commit(EXPERIMENT, UNIT, *tables(UNIT, accuracy=0.1))
    assert verify(file_store).findings == ()


def test_units_of_another_score_come_back_and_agree_with_their_repetition(store: Store) -> None:
    land(store, score="r2")
    found = store.committed(OTHER)
    assert found.damaged == {} and found.rows.equals(tables(UNIT, OTHER, score="r2")[0])
    assert found.rows["test_accuracy"].null_count == 3 and found.rows["test_score"].to_pylist() == [0.503, 0.504, 0.511]
    metrics, damaged = store.read_table(found, "metrics")
    assert damaged == {} and metrics.equals(tables(UNIT, OTHER, score="r2")[1])
    assert metadata_of(store.read(unit_key("levels", OTHER, UNIT.name)))["schema_version"] == "4"
    assert metadata_of(store.read(unit_key("metrics", OTHER, UNIT.name)))["schema_version"] == "4"
    assert not store.commit(OTHER, UNIT, *tables(UNIT, OTHER, score="r2", minutes=7))
    with pytest.raises(NotDeterministic, match="in test_score "):
        store.commit(OTHER, UNIT, *tables(UNIT, OTHER, score="r2", accuracy=0.1))
    levels, metrics, masks = tables(UNIT, OTHER, score="r2")
    with pytest.raises(NotDeterministic, match="its metrics differ"):
        store.commit(OTHER, UNIT, levels, change(metrics, "score_value", 2, 0.25), masks)
    assert verify(store).findings == ()


def test_a_unit_of_another_score_whose_seeds_were_all_lost_is_committed(file_store: Store) -> None:
    levels, metrics, masks = tables(UNIT, OTHER, score="r2")
    for row in range(3):
        levels = change(levels, "status", row, "diverged")
        for name in SCORES_OF:
            if name in levels.column_names:
                levels = change(levels, name, row, None)
    assert file_store.commit(OTHER, UNIT, levels, metrics.slice(0, 0), masks)
    assert not file_store.commit(OTHER, UNIT, change(levels, "device", 0, "cuda"), metrics.slice(0, 0), masks)
    assert set(file_store.committed(OTHER).rows["score"].to_pylist()) == {"r2"}


@pytest.mark.parametrize("first", ["accuracy", "r2"])
def test_a_store_holds_units_of_several_scores(store: Store, first: str) -> None:
    """Curated tables begin with either; what is published says what the objects say, and is scanned where it lies."""
    second = {"accuracy": "r2", "r2": "accuracy"}[first]
    land(store, score=first)
    before = compared(lth.results.open(store.url))
    assert compact(store).added["levels"] == 3
    assert compared(lth.results.open(store.url)) == before
    [file] = [key for key in store.objects.sizes("curated/metrics") if key.endswith(".parquet")]
    names = pq.read_schema(io.BytesIO(store.read(file) or b"")).names
    assert ("score" in names) == (first != "accuracy"), "accuracies are not held twice"
    land(store, score=second)
    together = compared(lth.results.open(store.url))
    assert compact(store).added["levels"] == 3
    assert compared(lth.results.open(store.url)) == together
    land(store, Unit("ticket", 0, 0, (3, 4)))  # after rows of another score
    assert compact(store).added["levels"] == 2 and compact(store).added == dict.fromkeys(KINDS, 0)
    assert_curated_is_committed(store, EXPERIMENT, OTHER)
    results = lth.results.open(store.url)
    assert results.query(
        "SELECT score, count(*) AS n, avg(test_score) AS mean, count(test_accuracy) AS accuracies FROM levels "
        "GROUP BY ALL ORDER BY ALL"
    ).to_pylist() == [
        {"score": "accuracy", "n": 5, "mean": pytest.approx(0.505), "accuracies": 5},
        {"score": "r2", "n": 3, "mean": pytest.approx(0.506), "accuracies": 0},
    ]
    assert results.query(
        "SELECT score, count(score_value) AS n FROM metrics GROUP BY ALL ORDER BY ALL"
    ).to_pylist() == [
        {"score": "accuracy", "n": 30},
        {"score": "r2", "n": 18},
    ]
    assert verify(store).findings == ()


def test_what_is_set_aside_of_another_score_is_withdrawn(file_store: Store) -> None:
    land(file_store)
    land(file_store, score="r2")
    compact(file_store)
    file_store.quarantine_unit(OTHER, UNIT.name)
    land(file_store, score="r2")  # the same again: nothing is taken back
    assert compact(file_store).added["levels"] == 0
    file_store.quarantine_unit(OTHER, UNIT.name)
    land(file_store, score="r2", accuracy=0.25)
    [finding] = verify(file_store).findings
    assert finding.trouble == "contradictory" and finding.key.startswith("curated/levels")
    assert compact(file_store).added["levels"] == 3
    assert_curated_is_committed(file_store, EXPERIMENT, OTHER)
    assert verify(file_store).findings == ()


def test_units_of_another_score_that_disagree_are_named(file_store: Store) -> None:
    land(file_store, score="r2")
    overlapping = Unit("ticket", 0, 1, (4, 5))
    land(file_store, overlapping, score="r2", accuracy=0.1)
    [finding] = verify(file_store).findings
    assert (finding.trouble, finding.key) == ("contradictory", unit_key("levels", OTHER, overlapping.name))


def test_curated_metrics_of_several_scores_are_scanned_column_by_column(file_store: Store) -> None:
    land(file_store)
    land(file_store, score="r2")
    compact(file_store)
    results = lth.results.open(file_store.url)
    plan = str(results.query("EXPLAIN SELECT avg(score_value) FROM metrics WHERE split = 'val'").to_pylist())
    assert "ARROW_SCAN" in plan and "score_value" in plan
    assert not any(name in plan for name in ("loss", "density", "step")), "only what is asked for is read"


def test_accuracies_and_scores_that_contradict_each_other_are_refused() -> None:
    levels, _, _ = tables(UNIT)
    place = levels.schema.get_field_index("test_score")
    wrong = levels.set_column(place, levels.schema.field(place), pa.array([0.503, 0.9, 0.511]))
    with pytest.raises(StoreError, match=r"seed 4 is scored by accuracy with test_score 0\.9 and test_accuracy 0\.504"):
        conform(wrong, "levels")
    scored, _, _ = tables(UNIT, score="r2")
    place = scored.schema.get_field_index("val_accuracy")
    wrong = scored.set_column(place, scored.schema.field(place), pa.array([None, 0.5, None]))
    with pytest.raises(StoreError, match=r"seed 4 is scored by r2 with val_score 0\.5 and val_accuracy 0\.5"):
        conform(wrong, "levels")


def test_a_unit_has_one_score(file_store: Store) -> None:
    levels, metrics, masks = tables(UNIT, score="r2")
    with pytest.raises(StoreError, match="its levels are scored by auroc, r2"):
        file_store.commit(EXPERIMENT, UNIT, change(levels, "score", 1, "auroc"), metrics, masks)
    with pytest.raises(StoreError, match="its levels are scored by r2 and its metrics by accuracy"):
        file_store.commit(EXPERIMENT, UNIT, levels, tables(UNIT)[1], masks)


def test_tables_of_accuracies_are_completed() -> None:
    levels, metrics, masks = tables(UNIT)
    bare = levels.drop_columns(["score", *(name for name in SCORES_OF if name in levels.column_names)])
    assert conform(bare, "levels").equals(levels)
    assert with_scores(bare).select(LEVELS.names).to_pylist() == levels.to_pylist()
    assert conform(metrics.drop_columns(["score", "score_value"]), "metrics").schema == METRICS
    assert with_scores(masks) is masks


def test_a_later_version_is_named() -> None:
    data = parquet.encode(tables(UNIT)[0], {"schema_version": "9"})
    with pytest.raises(DamagedObject, match="its schema_version is '9', this program reads '7' and before"):
        parquet.decode(data, "levels")
