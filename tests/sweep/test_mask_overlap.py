"""Overlaps of committed masks: which pairs there are, and what they share."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lth.data import load_dataset
from lth.errors import LthError
from lth.experiment import Experiment, load_experiment
from lth.store import Store
from lth.sweep import overlap
from lth.sweep.here import run_here
from lth.sweep.overlap import Between, compare

SEEDS = (0, 1, 2)
TENSORS = ("1.weight", "3.weight", "")  # the last: the whole network


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Store]:
    experiment = load_experiment("smoke", ["arms=[ticket, reinit, random_mask:2]"])
    store = Store(tmp_path_factory.mktemp("store"))
    run_here(experiment, SEEDS, store, load_dataset("digits"))
    return experiment, store


def pairs(rows: pa.Table, *names: str) -> Counter[tuple[Any, ...]]:
    return Counter(zip(*(rows[name].to_pylist() for name in (*names, "tensor")), strict=True))


@pytest.fixture(scope="module")
def masks(swept: tuple[Experiment, Store]) -> dict[tuple[str, int, int, int], dict[str, np.ndarray]]:
    """(arm, draw, level, seed) -> the mask of each tensor, flat."""
    experiment, store = swept
    found = {}
    for (arm, draw, level, seed), unit in store.committed(experiment.id).where.items():
        read = store.read_masks(experiment.id, {seed: unit})
        found[arm, draw, level, seed] = {name: mask.ravel() for name, mask in read.items()}
    return found


def test_three_seeds_make_three_pairs_for_every_arm_draw_and_level(swept: tuple[Experiment, Store]) -> None:
    experiment, store = swept
    rows = compare(store, experiment.id, "seeds")
    found = pairs(rows, "arm_a", "draw_a", "level_a", "seed_a", "seed_b")
    arms = [("ticket", 0), ("reinit", 0), ("random_mask", 0), ("random_mask", 1)]
    assert found == Counter(
        [
            (*arm, level, *seeds, tensor)
            for arm in arms
            for level in (1, 2)
            for seeds in ((0, 1), (0, 2), (1, 2))
            for tensor in TENSORS
        ]
    )
    assert rows["between"].unique().to_pylist() == ["seeds"]
    assert rows["arm_a"].equals(rows["arm_b"]) and rows["level_a"].equals(rows["level_b"])


def test_arms_are_compared_within_a_level_and_levels_within_an_arm(swept: tuple[Experiment, Store]) -> None:
    experiment, store = swept
    rows = compare(store, experiment.id, "arms", [2])
    places = {frozenset({(row["arm_a"], row["draw_a"]), (row["arm_b"], row["draw_b"])}) for row in rows.to_pylist()}
    assert len(places) == 6 and rows.num_rows == 6 * 3 * 3  # pairs of four, seeds, two tensors and the network
    assert rows["seed_a"].equals(rows["seed_b"])
    assert set(rows["level_a"].to_pylist()) == set(rows["level_b"].to_pylist()) == {2}

    rows = compare(store, experiment.id, "levels", arms=["ticket", "reinit"])
    assert pairs(rows, "arm_a", "level_a", "level_b", "seed_a", "seed_b") == Counter(
        [(arm, 1, 2, seed, seed, tensor) for arm in ("ticket", "reinit") for seed in SEEDS for tensor in TENSORS]
    )
    rows = compare(store, experiment.id, "levels", [0, 2], ["ticket"])
    network = [row for row in rows.to_pylist() if row["tensor"] == ""]
    # 502 + 116 weights of 1024 + 160 are left at level 2, and the dense network keeps them all
    assert [row["jaccard"] for row in network] == [618 / 1184] * 3


@pytest.mark.parametrize("between", ["seeds", "arms", "levels"])
def test_what_masks_share_is_what_numpy_counts(
    swept: tuple[Experiment, Store], masks: dict[tuple[str, int, int, int], dict[str, np.ndarray]], between: Between
) -> None:
    experiment, store = swept
    for row in compare(store, experiment.id, between, [1, 2], ["ticket", "random_mask"]).to_pylist():
        a, b = (
            masks[row[f"arm_{side}"], row[f"draw_{side}"], row[f"level_{side}"], row[f"seed_{side}"]] for side in "ab"
        )
        names = [row["tensor"]] if row["tensor"] else ["1.weight", "3.weight"]
        first, second = (np.concatenate([side[name] for name in names]) for side in (a, b))
        assert row["intersection"] == (first & second).sum() and row["union"] == (first | second).sum()
        assert row["jaccard"] == (first & second).sum() / (first | second).sum()
        assert (row["remaining_a"], row["remaining_b"]) == (first.sum(), second.sum())


def test_reinit_shares_all_of_the_tickets_mask_and_a_random_mask_what_chance_gives(
    swept: tuple[Experiment, Store],
) -> None:
    experiment, store = swept
    for row in compare(store, experiment.id, "arms").to_pylist():
        arms = {row["arm_a"], row["arm_b"]}
        if arms == {"ticket", "reinit"}:
            assert row["jaccard"] == 1
        elif row["tensor"] == "":  # standard deviation of the share: about 0.01 for 1,184 weights
            assert "random_mask" in arms and abs(row["jaccard"] - row["chance"]) < 0.05


def test_blocks_of_seeds_give_the_same_rows(swept: tuple[Experiment, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, store = swept
    weights = store.committed(experiment.id).rows["weights_total"][0].as_py()
    for between in ("seeds", "arms", "levels"):
        whole = compare(store, experiment.id, between)
        for size in (1, 2):
            monkeypatch.setattr(overlap, "WEIGHTS_AT_ONCE", size * weights)
            parts = compare(store, experiment.id, between)
            order = [(name, "ascending") for name in whole.column_names]
            assert parts.sort_by(order) == whole.sort_by(order)
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("between", "levels", "arms"), [("seeds", [7], None), ("arms", None, ["ticket"]), ("levels", [1], None)]
)
def test_nothing_to_compare_is_said_in_one_line(
    swept: tuple[Experiment, Store], between: Between, levels: list[int] | None, arms: list[str] | None
) -> None:
    experiment, store = swept
    with pytest.raises(LthError, match="no two masks to compare") as refused:
        compare(store, experiment.id, between, levels, arms)
    assert "\n" not in str(refused.value) and experiment.id in str(refused.value)


def test_an_arm_that_is_not_committed_is_named_with_those_that_are(swept: tuple[Experiment, Store]) -> None:
    with pytest.raises(LthError, match="no committed arm 'tickets' in .*; it has random_mask, reinit, ticket$"):
        compare(swept[1], swept[0].id, "seeds", arms=["ticket", "tickets"])


def test_an_experiment_that_the_store_does_not_have_is_said_in_one_line(swept: tuple[Experiment, Store]) -> None:
    with pytest.raises(LthError, match="digits-0000000000 has no two masks"):
        compare(swept[1], "digits-0000000000", "seeds")
