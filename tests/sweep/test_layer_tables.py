"""The table `layers` that a sweep leaves beside its masks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import lth.results
from lth.data import ImageData, load_dataset
from lth.experiment import Experiment, load_experiment
from lth.store import Store
from lth.sweep.here import run_here

SEEDS = (0, 1)
Place = tuple[str, int, int, int]  # arm, draw, level, seed


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def swept(digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Store]:
    experiment = load_experiment(
        "smoke", ["pruning.fraction=0.8", "pruning.scope=global", "arms=[ticket, reinit:2, random_mask]"]
    )
    store = Store(tmp_path_factory.mktemp("store"))
    run_here(experiment, SEEDS, store, digits)
    return experiment, store


def masks_of(store: Store, experiment: Experiment) -> dict[Place, dict[str, np.ndarray]]:
    found = {}
    for place, unit in store.committed(experiment.id).where.items():
        read = store.read_masks(experiment.id, {place[3]: unit})
        found[place] = {name: mask[0] for name, mask in read.items()}
    return found


def live_units(masks: dict[str, np.ndarray]) -> np.ndarray:
    """Of the 16 hidden units, those that an input reaches and that reach a class."""
    return masks["1.weight"].any(1) & masks["3.weight"].any(0)


def test_every_tensor_of_every_training_has_one_row_that_agrees_with_its_mask(swept: tuple[Experiment, Store]) -> None:
    experiment, store = swept
    table = lth.results.open(store.url).layers.to_pylist()
    masks = masks_of(store, experiment)
    places = Counter((row["arm"], row["draw"], row["level"], row["seed"], row["tensor"]) for row in table)
    assert set(places.values()) == {1}
    assert set(places) == {(*place, name) for place in masks for name in ("1.weight", "3.weight")}
    assert len(places) == 2 * 2 * (1 + 2 * 4)
    for row in table:
        mask = masks[row["arm"], row["draw"], row["level"], row["seed"]]
        own, units = mask[row["tensor"]], {"1.weight": 16, "3.weight": 10}[row["tensor"]]
        assert row["experiment_id"] == experiment.id and row["units"] == units == len(own)
        assert row["remaining"] == own.sum() and row["total"] == own.size
        assert row["density"] == own.sum() / own.size
        assert row["flops"] == 2 * own.sum()
        alive = live_units(mask)
        effective = own & (alive[:, None] if row["tensor"] == "1.weight" else alive[None, :])
        assert row["effective"] == effective.sum() and row["effective_density"] == effective.sum() / own.size
        assert row["dead_units"] == units - effective.any(1).sum()
    deepest = [row for row in table if row["level"] == 2 and row["arm"] == "random_mask"]
    assert any(row["dead_units"] for row in deepest) and any(row["effective"] < row["remaining"] for row in deepest)


def test_the_operations_and_weights_of_a_training_are_the_sums_over_its_layers(swept: tuple[Experiment, Store]) -> None:
    _, store = swept
    found = lth.results.open(store.url).query(
        "SELECT l.flops = sum(t.flops) AND l.weights_remaining = sum(t.remaining) "
        "AND l.parameters = sum(t.remaining) + 26 AS same FROM levels l "
        "JOIN layers t USING (experiment_id, arm, draw, level, seed) "
        "GROUP BY l.arm, l.draw, l.level, l.seed, l.flops, l.weights_remaining, l.parameters"
    )
    assert found["same"].to_pylist() == [True] * 2 * (1 + 2 * 4)


def test_what_is_never_pruned_counts_in_the_network_and_not_among_its_layers(digits: ImageData, tmp_path: Path) -> None:
    experiment, store = load_experiment("smoke", ["model.prunable=[1.weight]", "arms=[ticket]"]), Store(tmp_path)
    run_here(experiment, (0,), store, digits)
    results = lth.results.open(store.url)
    layers = {row["level"]: row for row in results.layers.to_pylist()}
    assert {row["tensor"] for row in layers.values()} == {"1.weight"} and len(layers) == 3
    for row in results.levels.to_pylist():
        left = {0: 1024, 1: 717, 2: 502}[row["level"]]
        assert row["weights_remaining"] == left == layers[row["level"]]["remaining"]
        assert row["flops"] == 2 * left + 2 * 160 == layers[row["level"]]["flops"] + 320
        assert row["parameters"] == left + 160 + 16 + 10


def test_rows_stay_one_when_units_are_done_again_in_other_cohorts(digits: ImageData, tmp_path: Path) -> None:
    experiment, store = load_experiment("smoke", ["arms=[ticket]", "pruning.levels=1"]), Store(tmp_path)
    run_here(experiment, SEEDS, store, digits)
    before = lth.results.open(store.url).layers
    for name in set(store.committed(experiment.id).where.values()):
        store.quarantine_unit(experiment.id, name)
    run_here(experiment, SEEDS, store, digits, cohort_size=1)
    after = lth.results.open(store.url).layers
    order = [("level", "ascending"), ("seed", "ascending"), ("tensor", "ascending")]
    assert after.num_rows == 2 * 2 * 2 and after.sort_by(order) == before.sort_by(order)
