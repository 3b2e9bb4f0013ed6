from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lth.errors import DamagedObject, NotDeterministic, StoreError
from lth.store import LEVELS, Store, Unit, content_hash, parquet, result_columns
from lth.store.objects import Objects
from lth.store.unit import checkpoint_key, levels_key, unit_key

from .cohorts import EXPERIMENT, change, mask_of, masks_of, tables
from .conftest import QUICK, SECRET
from .test_objects import Flaky

UNIT = Unit("ticket", 0, 1, (0, 1, 2, 3))


def checkpoint_of(unit: Unit) -> dict[str, torch.Tensor]:
    flat = torch.arange(len(unit.seeds) * 6, dtype=torch.float32).reshape(len(unit.seeds), 6)
    flat[0, 0] = float("nan")  # a diverged seed
    return {
        "weight": flat[:, :4].view(-1, 2, 2),
        "bias": flat[:, 4:],  # views of one buffer, as the engine's are
        "batches": torch.tensor(unit.seeds),
        "half": flat.to(torch.bfloat16),
        "on": flat > 3,
    }


def test_a_unit_comes_back_as_it_was_committed(store: Store) -> None:
    levels, metrics, masks = tables(UNIT)
    assert store.committed(EXPERIMENT).rows.num_rows == 0
    assert store.commit(EXPERIMENT, UNIT, levels, metrics, masks, checkpoint_of(UNIT))
    found = store.committed(EXPERIMENT)
    assert found.rows.equals(levels) and found.rows.schema == LEVELS
    assert found.where == {("ticket", 0, 1, seed): UNIT.name for seed in UNIT.seeds}
    assert found.damaged == {} and list(found.units) == [UNIT.name]
    assert store.read_table(found, "metrics")[0].equals(metrics)
    assert store.seeds_of(EXPERIMENT, UNIT.name) == UNIT.seeds
    checkpoint = store.read_checkpoint(EXPERIMENT, UNIT.name)
    assert checkpoint.keys() == checkpoint_of(UNIT).keys()
    for name, tensor in checkpoint_of(UNIT).items():
        assert checkpoint[name].dtype == tensor.dtype
        torch.testing.assert_close(checkpoint[name], tensor, rtol=0, atol=0, equal_nan=True)
    checkpoint["weight"].zero_()  # it can be trained on


def test_the_commit_mark_records_the_other_objects(store: Store) -> None:
    levels, metrics, masks = tables(UNIT)
    store.commit(EXPERIMENT, UNIT, levels, metrics, masks, checkpoint_of(UNIT))
    data = store.read(levels_key(EXPERIMENT, UNIT.name))
    assert data is not None
    metadata = {key.decode(): value.decode() for key, value in pq.read_schema(pa.BufferReader(data)).metadata.items()}
    assert metadata["schema_version"] == "3" and metadata["unit"] == UNIT.name
    assert json.loads(metadata["seeds"]) == [0, 1, 2, 3]
    objects = json.loads(metadata["objects"])
    keys = {
        "metrics": unit_key("metrics", EXPERIMENT, UNIT.name),
        "masks": unit_key("masks", EXPERIMENT, UNIT.name),
        "checkpoints": checkpoint_key(EXPERIMENT, UNIT.name),
    }
    assert {kind: found["key"] for kind, found in objects.items()} == keys
    for kind, key in keys.items():
        content = store.read(key)
        assert content is not None
        assert objects[kind]["sha256"] == hashlib.sha256(content).hexdigest() and objects[kind]["bytes"] == len(content)
    assert [objects[kind]["rows"] for kind in keys] == [24, 8, 4]
    assert objects["metrics"]["content_sha256"] == _content(metrics)


def test_repeating_a_commit_is_success_whatever_the_circumstances(store: Store) -> None:
    assert store.commit(EXPERIMENT, UNIT, *tables(UNIT), checkpoint_of(UNIT))
    levels, metrics, masks = tables(UNIT, minutes=5)
    levels = change(change(levels, "device", 0, "cuda"), "train_seconds", 1, 99.0)
    order = list(reversed(range(metrics.num_rows)))
    assert not store.commit(EXPERIMENT, UNIT, levels, metrics.take(order), masks, checkpoint_of(UNIT))
    assert store.committed(EXPERIMENT).rows.equals(tables(UNIT)[0]), "the first stays"
    assert store.objects.sizes("quarantine") == {}


def test_sixteen_commits_at_once_have_one_winner(store: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda minutes: store.commit(EXPERIMENT, UNIT, *tables(UNIT, minutes=minutes)), range(16)))
    assert won.count(True) == 1
    assert store.committed(EXPERIMENT).rows.equals(tables(UNIT, minutes=won.index(True))[0])


@pytest.mark.parametrize("kind", ["levels", "metrics", "masks", "checkpoint"])
def test_other_results_are_not_deterministic(store: Store, kind: str) -> None:
    levels, metrics, masks = tables(UNIT)
    checkpoint = checkpoint_of(UNIT)
    store.commit(EXPERIMENT, UNIT, levels, metrics, masks, checkpoint)
    before = store.objects.sizes("levels") | store.objects.sizes("metrics") | store.objects.sizes("masks")
    if kind == "levels":
        levels = change(levels, "test_accuracy", 3, 0.123)
    elif kind == "metrics":
        metrics = change(metrics, "loss", 7, None)
    elif kind == "masks":
        masks = change(masks, "remaining", 0, 0)
    else:
        checkpoint["bias"] = torch.nextafter(checkpoint["bias"], torch.tensor(torch.inf))
    with pytest.raises(NotDeterministic, match=f"unit {UNIT.name}: its {kind} differ") as caught:
        store.commit(EXPERIMENT, UNIT, levels, metrics, masks, checkpoint)
    assert ("in test_accuracy " in str(caught.value)) == (kind == "levels")
    assert store.objects.sizes("levels") | store.objects.sizes("metrics") | store.objects.sizes("masks") == before
    assert store.committed(EXPERIMENT).damaged == {}


class Killed(BaseException):
    """What a killed process would have been doing."""


@pytest.mark.parametrize("before", ["metrics", "masks", "checkpoints", "levels"])
def test_a_writer_killed_before_the_commit_mark_leaves_no_unit(
    store: Store, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    create = Objects.create
    written: list[str] = []

    def killed(objects: Objects, key: str, data: bytes) -> bool:
        if key.startswith(before):
            raise Killed
        written.append(key.split("/")[0])
        return create(objects, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "create", killed)
        with pytest.raises(Killed):
            store.commit(EXPERIMENT, UNIT, *tables(UNIT), checkpoint_of(UNIT))
    order = ["metrics", "masks", "checkpoints", "levels"]
    assert written == order[: order.index(before)]
    found = store.committed(EXPERIMENT)
    assert (found.rows.num_rows, found.where, found.damaged) == (0, {}, {})
    assert store.commit(EXPERIMENT, UNIT, *tables(UNIT, minutes=1), checkpoint_of(UNIT))
    assert store.committed(EXPERIMENT).rows.equals(tables(UNIT, minutes=1)[0])


def test_leftovers_written_otherwise_are_recorded_as_they_lie(store: Store) -> None:
    # Another version of pyarrow would write other bytes of the same content; so do other metadata and another order.
    _, metrics, _ = tables(UNIT)
    written = parquet.encode(metrics.take(list(reversed(range(metrics.num_rows)))), {"by": "another version"})
    store.create(unit_key("metrics", EXPERIMENT, UNIT.name), written)
    assert store.commit(EXPERIMENT, UNIT, *tables(UNIT))
    assert store.read(unit_key("metrics", EXPERIMENT, UNIT.name)) == written
    found = store.committed(EXPERIMENT)
    assert found.damaged == {} and found.rows.num_rows == 4
    table, damaged = store.read_table(found, "metrics")
    assert damaged == {} and _content(table) == _content(metrics)


@pytest.mark.parametrize("kind", ["metrics", "masks", "checkpoints", "levels"])
def test_damaged_leftovers_are_put_aside(store: Store, kind: str) -> None:
    from lth.store.unit import unit_key

    key = unit_key(kind, EXPERIMENT, UNIT.name)
    store.create(key, b"PAR1 half an object")
    assert store.commit(EXPERIMENT, UNIT, *tables(UNIT), checkpoint_of(UNIT))
    assert store.committed(EXPERIMENT).rows.num_rows == 4
    (aside,) = store.objects.sizes("quarantine")
    assert aside.startswith(f"quarantine/{key}.") and store.read(aside) == b"PAR1 half an object"


@pytest.mark.parametrize("position", range(4), ids=["metrics", "masks", "checkpoint", "levels"])
def test_a_reply_lost_in_the_middle_of_a_commit(bucket: str, position: int) -> None:
    store = Store(f"s3://{bucket}", retries=QUICK)
    flaky = Flaky(store, "pipe_file", [], after=True)
    put = flaky.original
    written: list[str] = []

    def lose(path: str, *arguments: object, **options: object) -> object:
        written.append(path)
        if len(written) == position + 1:
            flaky.errors.append(TimeoutError("the reply was lost"))
        return put(path, *arguments, **options)

    flaky.original = lose
    assert store.commit(EXPERIMENT, UNIT, *tables(UNIT), checkpoint_of(UNIT))
    assert len(written) == 5 and store.committed(EXPERIMENT).rows.equals(tables(UNIT)[0])


def test_seeds_in_two_units_count_once(store: Store) -> None:
    one, other = Unit("ticket", 0, 1, (0, 1, 2)), Unit("ticket", 0, 1, (1, 2, 3))
    store.commit(EXPERIMENT, one, *tables(one, minutes=2))
    assert store.committed(EXPERIMENT).where[("ticket", 0, 1, 1)] == one.name
    store.commit(EXPERIMENT, other, *tables(other, minutes=1))
    found = store.committed(EXPERIMENT)
    assert found.rows["seed"].to_pylist() == [0, 1, 2, 3]
    assert [found.where[("ticket", 0, 1, seed)] for seed in range(4)] == [one.name, other.name, other.name, other.name]
    metrics, damaged = store.read_table(found, "metrics")
    assert damaged == {} and metrics.num_rows == 4 * 6
    assert metrics.select(["seed", "step", "split"]).group_by(["seed", "step", "split"]).aggregate([]).num_rows == 24


def test_arms_draws_levels_and_experiments_are_apart(store: Store) -> None:
    units = [
        Unit("ticket", 0, 1, (0, 1)),
        Unit("ticket", 0, 2, (0, 1)),
        Unit("reinit", 0, 1, (0, 1)),
        Unit("reinit", 1, 1, (0, 1)),
    ]
    for unit in units:
        store.commit(EXPERIMENT, unit, *tables(unit))
    store.commit("another", units[0], *tables(units[0], "another"))
    found = store.committed(EXPERIMENT)
    assert len(found.where) == found.rows.num_rows == 8
    assert found.rows.select(["arm", "draw", "level", "seed"]).to_pylist()[0] == {
        "arm": "reinit",
        "draw": 0,
        "level": 1,
        "seed": 0,
    }
    assert store.committed("another").rows.num_rows == 2 and store.experiments() == ["another", EXPERIMENT]


def test_masks_of_several_units_in_the_order_asked_for(store: Store) -> None:
    units = [Unit("ticket", 0, 1, (0, 1, 2)), Unit("ticket", 0, 1, (7, 9))]
    for unit in units:
        store.commit(EXPERIMENT, unit, *tables(unit))
    where = {9: units[1].name, 1: units[0].name, 0: units[0].name}
    masks = store.read_masks(EXPERIMENT, where)
    for tensor, array in masks_of((9, 1, 0)).items():
        np.testing.assert_array_equal(masks[tensor], array)
    assert masks["hidden.weight"].dtype == np.bool_
    np.testing.assert_array_equal(masks["output.weight"][1], mask_of(1)["output.weight"])
    with pytest.raises(DamagedObject, match="seed 5"):
        store.read_masks(EXPERIMENT, {5: units[0].name})
    with pytest.raises(DamagedObject, match="not committed"):
        store.read_masks(EXPERIMENT, {5: "ticket-L09-s0-1-01234567"})


def test_quarantine_lets_a_unit_be_computed_anew(store: Store) -> None:
    store.commit(EXPERIMENT, UNIT, *tables(UNIT), checkpoint_of(UNIT))
    moved = store.quarantine_unit(EXPERIMENT, UNIT.name)
    assert [key.split("/")[1] for key in moved] == ["levels", "metrics", "masks", "checkpoints"]
    assert sorted(moved) == sorted(store.objects.sizes("quarantine"))
    assert store.committed(EXPERIMENT).where == {} and store.read(checkpoint_key(EXPERIMENT, UNIT.name)) is None
    assert store.quarantine_unit(EXPERIMENT, UNIT.name) == []
    assert store.commit(EXPERIMENT, UNIT, *tables(UNIT, accuracy=0.1))
    assert store.committed(EXPERIMENT).rows.equals(tables(UNIT, accuracy=0.1)[0])


def test_checkpoints_can_be_removed(store: Store) -> None:
    store.commit(EXPERIMENT, UNIT, *tables(UNIT), checkpoint_of(UNIT))
    assert store.read(checkpoint_key(EXPERIMENT, UNIT.name)) is not None
    store.delete_checkpoint(EXPERIMENT, UNIT.name)
    store.delete_checkpoint(EXPERIMENT, UNIT.name)
    assert store.read(checkpoint_key(EXPERIMENT, UNIT.name)) is None
    assert store.committed(EXPERIMENT).rows.num_rows == 4, "the unit stays committed"
    with pytest.raises(DamagedObject, match="does not exist"):
        store.read_checkpoint(EXPERIMENT, UNIT.name)


def test_rows_of_another_unit_are_refused(file_store: Store) -> None:
    levels, metrics, masks = tables(UNIT)
    cases = [
        ((levels.slice(1), metrics, masks), "3 rows"),
        ((levels.slice(0, 0), metrics, masks), "0 rows"),
        ((levels, change(metrics, "seed", 0, 99), masks), "seed 99"),
        ((levels, metrics, change(masks, "level", 0, 2)), "level 2"),
        ((levels, pa.concat_tables([metrics, metrics.slice(0, 1)]), masks), "twice"),
        ((change(levels, "arm", 0, "reinit"), metrics, masks), "'reinit'"),
    ]
    for case, message in cases:
        with pytest.raises(StoreError, match=message):
            file_store.commit(EXPERIMENT, UNIT, *case)
    with pytest.raises(StoreError, match="experiment_id"):
        file_store.commit("another", UNIT, levels, metrics, masks)
    with pytest.raises(StoreError, match="4 seeds"):
        file_store.commit(EXPERIMENT, UNIT, levels, metrics, masks, {"w": torch.zeros(3, 2)})
    assert file_store.objects.sizes("levels") == {}


def test_experiments_and_sweeps_are_written_once(store: Store) -> None:
    assert store.get_experiment("e-1") is None and store.experiments() == [] and store.sweeps("e-1") == []
    assert store.put_experiment("e-1", "model: lenet # ü\n") == "model: lenet # ü\n"
    assert store.put_experiment("e-1", "another") == "model: lenet # ü\n" == store.get_experiment("e-1")
    name = store.put_sweep("e-1", {"seeds": "0-4", "levels": 3})
    assert store.put_sweep("e-1", {"levels": 3, "seeds": "0-4"}) == name and len(name) == 8
    store.put_sweep("e-1", {"seeds": "0-9", "levels": 3})
    assert sorted(record["seeds"] for record in store.sweeps("e-1")) == ["0-4", "0-9"]
    assert store.experiments() == ["e-1"]
    store.create("experiments/e-1/sweeps/00000000.json", b"{")
    with pytest.raises(DamagedObject, match=r"sweeps/00000000\.json"):
        store.sweeps("e-1")


def test_reports_are_overwritten(store: Store) -> None:
    url = store.put_report("e-1", "figures/accuracy.svg", b"old")
    assert store.put_report("e-1", "figures/accuracy.svg", b"new") == url
    assert url == store.report_url("e-1", "figures/accuracy.svg")
    assert url == f"{store.url}/reports/experiment=e-1/figures/accuracy.svg"
    assert store.read("reports/experiment=e-1/figures/accuracy.svg") == b"new"


def test_the_secret_is_nowhere(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import traceback

    store = Store(f"s3://{bucket}/x", retries=QUICK)
    store.check_writable()
    store.put_experiment(EXPERIMENT, "name: tiny")
    store.put_sweep(EXPERIMENT, {"seeds": "0-3"})
    store.commit(EXPERIMENT, UNIT, *tables(UNIT), checkpoint_of(UNIT))
    for folder in ("levels", "metrics", "masks", "checkpoints", "experiments"):
        for key in store.objects.sizes(folder):
            content = store.read(key)
            assert content and SECRET.encode() not in content and SECRET not in key
    assert SECRET not in repr(store) + store.url + repr(store.objects.location)
    failures = [
        lambda: Store("s3://lth-no-such-bucket").check_writable(),
        lambda: store.read_checkpoint(EXPERIMENT, "none"),
        lambda: store.commit(EXPERIMENT, UNIT, *tables(UNIT, accuracy=0.1)),
    ]
    flaky = Flaky(store, "pipe_file", [])
    for error in (ValueError(f"the server said {SECRET}"), OSError(f"//user:{SECRET}@host")):

        def fail(error: Exception = error) -> None:
            flaky.errors = [error]
            try:
                store.create("levels/x", b"")
            except StoreError as failure:
                raise failure from None  # what a library put into its own exception is not ours to change

        failures.append(fail)
    for failure in failures:
        with pytest.raises(StoreError) as caught:
            failure()
        assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)


def _content(metrics: pa.Table) -> str:
    return content_hash(metrics, result_columns("metrics", metrics))
