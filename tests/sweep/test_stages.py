"""A whole sweep in this process: what lands in the store is what the definitions say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import lth.results
from lth.data import ImageData, load_dataset
from lth.engine import initialise
from lth.errors import LthError
from lth.experiment import Experiment, load_experiment
from lth.store import RESULT_COLUMNS, Store, Unit, content_hash
from lth.store.unit import checkpoint_key
from lth.sweep.here import run_here
from lth.sweep.setup import DataFacts, resolve
from lth.sweep.stages import feed as feeds
from lth.sweep.stages import prune

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_dataset("digits")


def smoke(*settings: str) -> Experiment:
    return load_experiment("smoke", settings)


@pytest.fixture(scope="module")
def swept(digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Store]:
    experiment, store = smoke("arms=[ticket, reinit:2, random_mask]"), Store(tmp_path_factory.mktemp("store"))
    run_here(experiment, SEEDS, store, digits)
    return experiment, store


def rows(store: Store, experiment: Experiment) -> dict[tuple[str, int, int, int], dict[str, object]]:
    columns = (
        "experiment_id",
        "arm",
        "draw",
        "level",
        "seed",
        "density",
        "weights_remaining",
        "weights_total",
        "early_stop_step",
        "train_accuracy",
        "train_loss",
        "val_accuracy",
        "val_accuracy_at_early_stop",
        "test_accuracy",
        "test_accuracy_at_early_stop",
        "test_loss",
        "steps",
        "status",
        "mask_sha256",
    )
    found = store.committed(experiment.id).rows.select(list(columns)).to_pylist()
    return {(row["arm"], row["draw"], row["level"], row["seed"]): row for row in found}


def masks_of(store: Store, experiment: Experiment, arm: str, draw: int, level: int) -> dict[str, np.ndarray]:
    where = store.committed(experiment.id).where
    return store.read_masks(experiment.id, {seed: where[arm, draw, level, seed] for seed in SEEDS})


def test_everything_planned_is_there_with_exact_counts(swept: tuple[Experiment, Store], digits: ImageData) -> None:
    experiment, store = swept
    found = rows(store, experiment)
    assert len(found) == 3 * (1 + 2 * 4)
    # 64-16-10: 1024 + 160 weights; 30% and 15% of what is left, half to even: 1024, 717, 502 and 160, 136, 116
    expected = {0: 1184, 1: 717 + 136, 2: 502 + 116}
    for (_, _, level, _), row in found.items():
        assert row["weights_remaining"] == expected[level] and row["weights_total"] == 1184
        assert row["density"] == pytest.approx(expected[level] / 1184)
        assert row["steps"] == 40 and row["status"] == "ok"
    for arm, draw in experiment.draws():
        for level in (1, 2):
            masks = masks_of(store, experiment, arm, draw, level)
            assert [masks["1.weight"].sum((1, 2)).tolist(), masks["3.weight"].sum((1, 2)).tolist()] == [
                [{1: 717, 2: 502}[level]] * 3,
                [{1: 136, 2: 116}[level]] * 3,
            ]


def test_a_ticket_keeps_the_largest_trained_weights(swept: tuple[Experiment, Store], digits: ImageData) -> None:
    experiment, store = swept
    before = store.read_checkpoint(experiment.id, Unit("ticket", 0, 0, SEEDS).name)
    masks = masks_of(store, experiment, "ticket", 0, 1)
    for name in ("1.weight", "3.weight"):
        for row in range(3):
            trained, mask = before[f"trained/{name}"][row].abs().numpy(), masks[name][row]
            assert trained[mask].min() >= trained[~mask].max()


def test_masks_are_nested_for_tickets_shared_by_reinit_and_different_for_random_masks(
    swept: tuple[Experiment, Store],
) -> None:
    experiment, store = swept
    first, second = (masks_of(store, experiment, "ticket", 0, level) for level in (1, 2))
    reinit, drawn = masks_of(store, experiment, "reinit", 1, 2), masks_of(store, experiment, "random_mask", 0, 2)
    for name in first:
        assert not (second[name] & ~first[name]).any()
        assert (reinit[name] == second[name]).all()
        assert not (drawn[name] == second[name]).all()
    found = rows(store, experiment)
    assert found["reinit", 0, 2, 0]["mask_sha256"] == found["ticket", 0, 2, 0]["mask_sha256"]
    assert found["reinit", 0, 2, 0]["test_loss"] != found["reinit", 1, 2, 0]["test_loss"]


def test_levels_agree_with_the_curves(swept: tuple[Experiment, Store]) -> None:
    experiment, store = swept
    metrics = lth.results.open(store.url).metrics.to_pylist()
    curves: dict[tuple[str, int, int, int, str], dict[int, tuple[float, float]]] = {}
    for row in metrics:
        key = (row["arm"], row["draw"], row["level"], row["seed"], row["split"])
        curves.setdefault(key, {})[row["step"]] = (row["loss"], row["accuracy"])
    for key, row in rows(store, experiment).items():
        validation = curves[*key, "val"]
        assert sorted(validation) == [0, 10, 20, 30, 40]
        assert row["early_stop_step"] == min(validation, key=lambda step: validation[step][0])
        assert row["val_accuracy_at_early_stop"] == validation[row["early_stop_step"]][1]
        assert row["val_accuracy"] == validation[40][1]
        assert sorted(curves[*key, "train"]) == [10, 20, 30, 40]
        test = curves[*key, "test"]
        assert set(test) == {row["early_stop_step"], 40}  # the test set is read at these two points and no other
        assert test[40] == (row["test_loss"], row["test_accuracy"])
        assert test[row["early_stop_step"]][1] == row["test_accuracy_at_early_stop"]


def test_seeds_one_by_one_and_then_more_give_the_same_tables(
    swept: tuple[Experiment, Store], digits: ImageData, tmp_path: Path
) -> None:
    experiment, store = swept
    other = Store(tmp_path)
    run_here(
        experiment.model_copy(update={"pruning": experiment.pruning.model_copy(update={"levels": 1})}),
        (1,),
        other,
        digits,
    )
    run_here(experiment, (0, 1), other, digits, cohort_size=1)
    done = run_here(experiment, SEEDS, other, digits)
    assert len(done) == 27
    assert rows(other, experiment) == rows(store, experiment)
    for name, mask in masks_of(store, experiment, "random_mask", 0, 2).items():
        assert (mask == masks_of(other, experiment, "random_mask", 0, 2)[name]).all()


def test_one_shot_cuts_the_dense_network_to_the_counts_of_the_ladder(digits: ImageData, tmp_path: Path) -> None:
    experiment, store = smoke("pruning.schedule=one_shot", "arms=[ticket]"), Store(tmp_path)
    run_here(experiment, SEEDS, store, digits)
    dense = store.read_checkpoint(experiment.id, Unit("ticket", 0, 0, SEEDS).name)["trained/1.weight"].abs().flatten(1)
    masks = torch.from_numpy(masks_of(store, experiment, "ticket", 0, 2)["1.weight"]).flatten(1)
    assert masks.sum(1).tolist() == [502] * 3
    for row in range(3):
        assert set(dense[row].argsort(descending=True)[:502].tolist()) == set(masks[row].nonzero()[:, 0].tolist())


def test_global_scope_lets_layers_compete(digits: ImageData, tmp_path: Path) -> None:
    experiment = smoke(
        "pruning.scope=global", "pruning.fraction=0.5", "pruning.output_factor=1", "arms=[ticket]", "pruning.levels=1"
    )
    store = Store(tmp_path)
    run_here(experiment, SEEDS, store, digits)
    masks = masks_of(store, experiment, "ticket", 0, 1)
    counts = [masks["1.weight"].sum((1, 2)), masks["3.weight"].sum((1, 2))]
    assert (counts[0] + counts[1]).tolist() == [592] * 3
    assert counts[1].tolist() != [80] * 3  # the output layer holds more large weights than its share


def test_late_rewinding_starts_from_the_weights_of_step_k_and_trains_on_from_there(
    digits: ImageData, tmp_path: Path
) -> None:
    experiment, store = smoke("rewinding={kind: step, step: 15it}", "arms=[ticket, reinit]"), Store(tmp_path)
    run_here(experiment, SEEDS, store, digits)
    saved = store.read_checkpoint(experiment.id, Unit("ticket", 0, 0, SEEDS).name)
    setup = resolve(experiment, DataFacts.of(digits))
    initial = initialise(setup.network, SEEDS)[:, :1024].view(3, 16, 64)
    assert not torch.equal(saved["rewind/1.weight"], initial)
    assert not torch.equal(saved["rewind/1.weight"], saved["trained/1.weight"])
    deepest = store.read_checkpoint(experiment.id, Unit("ticket", 0, 2, SEEDS).name)
    assert deepest and not any(name.startswith("rewind/") for name in deepest)  # one rewind point, the dense network's
    metrics = lth.results.open(store.url).query(
        "SELECT arm, min(step) AS first FROM metrics WHERE level = 2 AND split = 'val' GROUP BY arm ORDER BY arm"
    )
    assert metrics.to_pylist() == [{"arm": "reinit", "first": 0}, {"arm": "ticket", "first": 15}]


def test_rewinding_to_step_zero_is_rewinding_to_init(digits: ImageData, tmp_path: Path) -> None:
    late, init = smoke("rewinding={kind: step, step: 0it}"), smoke()
    assert late.id != init.id
    stores = Store(tmp_path / "late"), Store(tmp_path / "init")
    for experiment, store in zip((late, init), stores, strict=True):
        run_here(experiment, (0,), store, digits)
    one, other = (rows(store, spec) for store, spec in zip(stores, (late, init), strict=True))
    for key in one:
        assert {**one[key], "experiment_id": ""} == {**other[key], "experiment_id": ""}


def test_a_diverged_seed_is_recorded_at_every_level_and_the_others_go_on(digits: ImageData, tmp_path: Path) -> None:

    experiment, store = smoke(), Store(tmp_path)
    make_feed = feeds.make_feed

    def poisoned(*arguments, **options):  # type: ignore[no-untyped-def]
        feed = make_feed(*arguments, **options)
        for position, seed in enumerate(feed.seeds):
            if seed == 1:
                feed.fitted["scale"][position] = float("nan")
        return feed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feeds, "make_feed", poisoned)
        run_here(experiment, SEEDS, store, digits)
    found, clean = rows(store, experiment), Store(tmp_path / "clean")
    run_here(experiment, SEEDS, clean, digits)
    expected = rows(clean, experiment)
    assert set(found) == set(expected)
    for key, row in found.items():
        if key[3] == 1:
            assert row["status"] == "diverged" and row["test_accuracy_at_early_stop"] is None
            assert (row["mask_sha256"] is None) == (key[2] > 0)
        else:
            assert row == expected[key]


def has_checkpoint(store: Store, experiment: Experiment, level: int) -> bool:
    return store.read(checkpoint_key(experiment.id, Unit("ticket", 0, level, SEEDS).name)) is not None


def test_trained_weights_are_kept_only_as_long_as_a_level_may_need_them(swept: tuple[Experiment, Store]) -> None:
    experiment, store = swept
    kept = [level for level in range(3) if has_checkpoint(store, experiment, level)]
    assert kept == [0, 2]  # dense networks and rewind points; the deepest level, so that it can be extended


@pytest.mark.parametrize(
    "settings",
    [(), ("rewinding={kind: step, step: 15it}",), ("pruning.schedule=one_shot",)],
    ids=["init", "late", "one-shot"],
)
def test_checkpoints_that_are_gone_are_trained_again_to_the_bit(
    digits: ImageData, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    experiment, store = smoke("pruning.levels=3", "arms=[ticket, random_mask]", *settings), Store(tmp_path)
    run_here(experiment, SEEDS, store, digits)
    before = rows(store, experiment)
    masks = masks_of(store, experiment, "ticket", 0, 3)
    # A unit in the middle of the ladder is damaged, long after the weights that it was pruned from were deleted.
    assert not has_checkpoint(store, experiment, 1) or settings[:1] == ("pruning.schedule=one_shot",)
    for checkpoint in (tmp_path / "checkpoints").rglob("*.safetensors"):
        checkpoint.unlink()
    for level in (2, 3):
        store.quarantine_unit(experiment.id, Unit("ticket", 0, level, SEEDS).name)
    assert len(store.committed(experiment.id).where) == 3 * (7 - 2)
    run_here(experiment, SEEDS, store, digits)
    assert rows(store, experiment) == before
    for name, mask in masks_of(store, experiment, "ticket", 0, 3).items():
        assert (mask == masks[name]).all()


def test_a_block_that_a_device_has_no_memory_for_is_halved_until_it_has(
    swept: tuple[Experiment, Store], digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, store = swept
    seeds = sorted({key[3] for key in rows(store, experiment)})
    sizes, real, scored = [], feeds.make_feed, prune.Scored

    def scored_on_a_small_device(network, seeds, *rest):  # type: ignore[no-untyped-def]
        sizes.append(len(seeds))
        if len(seeds) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return scored(network, seeds, *rest)

    def small_device(data: ImageData, seeds: tuple[int, ...], *rest):  # type: ignore[no-untyped-def]
        sizes.append(len(seeds))
        if len(seeds) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(data, seeds, *rest)

    monkeypatch.setattr(feeds, "make_feed", small_device)
    monkeypatch.setattr(prune, "Scored", scored_on_a_small_device)
    again = Store(tmp_path / "small-device")
    run_here(experiment, seeds, again, digits)
    assert len(seeds) > 1 and max(sizes) == len(seeds) and sizes.count(1) >= len(seeds)
    expected, found = (one.committed(experiment.id).rows for one in (store, again))
    assert content_hash(found, RESULT_COLUMNS) == content_hash(expected, RESULT_COLUMNS)


def test_a_seed_that_alone_has_no_memory_is_said_in_one_line(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tiny_device(*arguments):  # type: ignore[no-untyped-def]
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(feeds, "make_feed", tiny_device)
    with pytest.raises(LthError, match="seed 3 alone needs more memory .* raise gpu_share, or set a smaller"):
        run_here(smoke(), (3, 4), Store(tmp_path / "store"), digits)
