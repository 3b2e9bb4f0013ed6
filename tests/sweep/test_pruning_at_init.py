"""Criteria and scopes through whole sweeps in this process: pruning at initialisation, by every criterion and scope."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from lth.data import ImageData, load_dataset
from lth.engine import initialise
from lth.errors import InvalidExperiment, LthError
from lth.experiment import Experiment, load_experiment
from lth.pruning import CRITERIA
from lth.store import Store, Unit
from lth.sweep.here import run_here
from lth.sweep.planning import Done, needs, plan, ready, trainings_behind, work
from lth.sweep.setup import DataFacts, resolve

SEEDS = (0, 3)
TENSORS = ("1.weight", "3.weight")  # 64-16-10: 1024 and 160 weights
ONE_SHOT = [
    "pruning={when: at_initialisation, schedule: one_shot, scope: global, fraction: 0.2, levels: 2, "
    "output_factor: 1, densities: [0.2, 0.05]}"
]
COUNTS = {1: 237, 2: 59}  # round(0.2 * 1184), round(0.05 * 1184)


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_dataset("digits")


def smoke(*settings: str) -> Experiment:
    """Trainings of ten steps: here it matters what is pruned, not how well it learns."""
    return load_experiment("smoke", ["training.duration=10it", "training.evaluate_every=5it", *settings])


def swept(digits: ImageData, folder: Path, *settings: str, seeds: Sequence[int] = SEEDS) -> tuple[Experiment, Store]:
    experiment, store = smoke(*settings), Store(f"memory://{folder}")
    run_here(experiment, tuple(seeds), store, digits)
    return experiment, store


def masks_of(
    swept: tuple[Experiment, Store], level: int, arm: str = "ticket", seeds: Sequence[int] = SEEDS
) -> dict[str, torch.Tensor]:
    experiment, store = swept
    where = store.committed(experiment.id).where
    read = store.read_masks(experiment.id, {seed: where[arm, 0, level, seed] for seed in seeds})
    return {name: torch.from_numpy(mask) for name, mask in read.items()}


def counts_of(swept: tuple[Experiment, Store], level: int) -> list[list[int]]:
    return [mask.flatten(1).sum(1).tolist() for mask in masks_of(swept, level).values()]


def rows_of(swept: tuple[Experiment, Store]) -> dict[tuple[str, int, int, int], dict[str, object]]:
    experiment, store = swept
    timing = ("train_seconds", "examples_per_second", "finished_at", "cohort_size")
    return {
        (row["arm"], row["draw"], row["level"], row["seed"]): {
            name: value for name, value in row.items() if name not in timing
        }
        for row in store.committed(experiment.id).rows.to_pylist()
    }


@pytest.mark.parametrize("criterion", ["snip", "grasp", "synflow", "random", "magnitude"])
def test_one_shot_at_initialisation(criterion: str, digits: ImageData, tmp_path: Path) -> None:
    settings = [*ONE_SHOT, f"pruning.criterion={criterion}", "arms=[ticket, reinit]", "pruning.allow_empty_layers=true"]
    together = swept(digits, tmp_path / "together", *settings)
    alone = swept(digits, tmp_path / "alone", *settings, seeds=(3,))

    rows = rows_of(together)
    assert len(rows) == 2 * (1 + 2 * 2)
    assert {key: row for key, row in rows.items() if key[3] == 3} == rows_of(alone)
    for (_, _, level, _), row in rows.items():
        assert row["weights_remaining"] == {0: 1184, **COUNTS}[level]
        assert row["steps"] == 10 and row["status"] == "ok"
    for level in (1, 2):
        masks = masks_of(together, level)
        assert sum(mask.flatten(1).sum(1) for mask in masks.values()).tolist() == [COUNTS[level]] * 2  # type: ignore[union-attr]
        assert all(torch.equal(masks[name][1], masks_of(alone, level, seeds=(3,))[name][0]) for name in TENSORS)
        assert not torch.equal(masks["1.weight"][0], masks["1.weight"][1])  # each seed has its own
        assert all(torch.equal(masks[name], masks_of(together, level, "reinit")[name]) for name in TENSORS)
    # Levels cut by one and the same score are nested; noise is drawn anew for each.
    if criterion != "synflow":
        returned = any(bool((masks_of(together, 2)[name] & ~masks_of(together, 1)[name]).any()) for name in TENSORS)
        assert returned == (criterion == "random")


def test_magnitude_at_initialisation_keeps_the_largest_initial_weights(digits: ImageData, tmp_path: Path) -> None:
    found = swept(digits, tmp_path, *ONE_SHOT, "pruning.criterion=magnitude", "arms=[ticket]")
    network = resolve(found[0], DataFacts.of(digits)).network
    views = network.layout.views(initialise(network, SEEDS).abs())
    initial = torch.cat([views[name].flatten(1) for name in TENSORS], 1)
    for level in (1, 2):
        mask = torch.cat([kept.flatten(1) for kept in masks_of(found, level).values()], 1)
        for row in range(2):
            assert initial[row][mask[row]].min() > initial[row][~mask[row]].max()
    # What one scores at initialisation is the initial weight, whatever the name.
    other = swept(digits, tmp_path / "init", *ONE_SHOT, "pruning.criterion=magnitude_init", "arms=[ticket]")
    assert all(torch.equal(masks_of(found, 2)[name], masks_of(other, 2)[name]) for name in TENSORS)


def test_levels_of_one_shot_at_initialisation_wait_for_nothing() -> None:
    """All levels can run side by side, before the dense network is trained; only controls wait, for their ticket."""
    experiment = smoke(*ONE_SHOT, "arms=[ticket, reinit]")

    for level in (1, 2):
        unit = Unit("ticket", 0, level, SEEDS)
        assert needs(experiment, unit) == set() and ready(experiment, unit, {})
        todo = work(experiment, unit, {})
        assert (todo.seeds, todo.lost) == (SEEDS, ())
        assert not todo.masks_from and not todo.trained_from and not todo.rewind_from
        assert needs(experiment, Unit("reinit", 0, level, SEEDS)) == {("ticket", 0, level)}
        assert trainings_behind(experiment, level) == 1
    # A control of a level whose ticket diverged has its mask all the same: the mask came from no training.
    done = {("ticket", 0, 1, seed): Done("a", True, True) for seed in SEEDS}
    todo = work(experiment, Unit("reinit", 0, 1, SEEDS), done)
    assert todo.seeds == SEEDS and set(todo.masks_from) == set(SEEDS) and not todo.trained_from


def test_the_order_in_which_units_run_changes_nothing(digits: ImageData, tmp_path: Path) -> None:
    """The deepest level first and the dense network last."""
    from lth.sweep import here

    settings = [*ONE_SHOT, "pruning.criterion=snip", "arms=[ticket, random_mask]"]
    usual = swept(digits, tmp_path / "usual", *settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            here, "plan", lambda *given: sorted(plan(*given), key=lambda unit: (unit.arm != "ticket", -unit.level))
        )
        turned = swept(digits, tmp_path / "turned", *settings)
    assert rows_of(turned) == rows_of(usual)


def test_iterative_snip_scores_again_what_is_left(digits: ImageData, tmp_path: Path) -> None:
    once, five = (
        swept(
            digits,
            tmp_path / str(rounds),
            *ONE_SHOT,
            "pruning.criterion=snip",
            "arms=[ticket]",
            f"pruning.rounds={rounds}",
        )
        for rounds in (1, 5)
    )
    published = swept(digits, tmp_path / "published", *ONE_SHOT, "pruning.criterion=snip", "arms=[ticket]")

    assert once[0].id != five[0].id
    for level in (1, 2):
        assert sum(map(sum, zip(*counts_of(once, level), strict=True))) == 2 * COUNTS[level]
        assert sum(map(sum, zip(*counts_of(five, level), strict=True))) == 2 * COUNTS[level]
        assert any(not torch.equal(masks_of(once, level)[name], masks_of(five, level)[name]) for name in TENSORS)
        assert all(torch.equal(masks_of(once, level)[name], masks_of(published, level)[name]) for name in TENSORS)


def test_what_is_shown_to_a_criterion_decides_its_mask(digits: ImageData, tmp_path: Path) -> None:
    settings = [*ONE_SHOT, "pruning.levels=1", "arms=[ticket]"]
    masks = [
        masks_of(swept(digits, tmp_path / str(number), *settings, *more), 1)["1.weight"]
        for number, more in enumerate(
            (
                ["pruning.criterion=snip"],
                ["pruning.criterion=snip", "pruning.scoring.examples=128"],
                ["pruning.criterion=snip", "pruning.scoring.examples=20"],
                ["pruning.criterion=grasp"],
                ["pruning.criterion=grasp", "pruning.scoring={per_class: 10, temperature: 200}"],
                ["pruning.criterion=grasp", "pruning.scoring.temperature=1"],
            )
        )
    ]

    assert torch.equal(masks[0], masks[1]) and torch.equal(masks[3], masks[4])  # as published is the default
    assert not torch.equal(masks[0], masks[2]) and not torch.equal(masks[3], masks[5])


def test_iterative_pruning_at_initialisation_goes_on_from_the_masks_before(digits: ImageData, tmp_path: Path) -> None:
    found = swept(digits, tmp_path, "pruning={when: at_initialisation, criterion: snip}", "arms=[ticket]")
    first, second = (masks_of(found, level) for level in (1, 2))

    assert counts_of(found, 1) == [[717] * 2, [136] * 2] and counts_of(found, 2) == [[502] * 2, [116] * 2]
    assert not any(bool((second[name] & ~first[name]).any()) for name in TENSORS)


@pytest.fixture(scope="module")
def by_magnitude(digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    """The mask of the larger layer after one level."""
    found = swept(digits, tmp_path_factory.mktemp("magnitude"), "pruning.levels=1", "arms=[ticket]")
    return masks_of(found, 1)["1.weight"]


@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_every_criterion_prunes_after_training(
    criterion: str, digits: ImageData, by_magnitude: torch.Tensor, tmp_path: Path
) -> None:
    found = swept(digits, tmp_path, f"pruning.criterion={criterion}", "arms=[ticket]")
    rows = rows_of(found)

    assert [rows["ticket", 0, level, 3]["weights_remaining"] for level in (0, 1, 2)] == [1184, 853, 618]
    assert {row["criterion"] for row in rows.values()} == {criterion}
    assert all(row["status"] == "ok" for row in rows.values())
    first, second = (masks_of(found, level) for level in (1, 2))
    assert not any(bool((second[name] & ~first[name]).any()) for name in TENSORS)
    # By every other criterion it is another mask than by magnitude.
    assert torch.equal(first["1.weight"], by_magnitude) == (criterion == "magnitude")


def test_movement_is_what_the_training_before_has_gathered(digits: ImageData, tmp_path: Path) -> None:
    settings = ["pruning.criterion=movement", "arms=[ticket, reinit]"]
    experiment, store = swept(digits, tmp_path, *settings, "pruning.levels=1")
    saved = [store.read_checkpoint(experiment.id, Unit("ticket", 0, level, SEEDS).name) for level in (0, 1)]
    found = swept(digits, tmp_path, *settings)
    for level in (0, 1):
        before, after = masks_of(found, level), masks_of(found, level + 1)
        for name in TENSORS:
            moved = saved[level][f"movement/{name}"]
            assert not bool(moved[~before[name]].any())  # pruned weights do not move
            for row in range(2):
                kept, gone = after[name][row], before[name][row] & ~after[name][row]
                assert moved[row][kept].min() > moved[row][gone].max()


def test_movement_that_is_gone_is_gathered_again_to_the_bit(digits: ImageData, tmp_path: Path) -> None:
    settings = ["pruning.criterion=movement", "arms=[ticket]"]
    whole = swept(digits, tmp_path / "whole", *settings)
    experiment, store = swept(digits, tmp_path / "store", *settings, "pruning.levels=1")
    for level in (0, 1):
        store.delete_checkpoint(experiment.id, Unit("ticket", 0, level, SEEDS).name)
    assert rows_of(swept(digits, tmp_path / "store", *settings)) == rows_of(whole)


LADDERS = {  # 1184 -> 829 -> 580, shared out between 1024 and 160 weights
    "uniform": [(717, 112), (502, 78)],
    "uniform_plus": [(717, 112), (502, 78)],
    "erk": [(669, 160), (438, 142)],
    "smart_ratio": [(781, 48), (532, 48)],
    "global": [None, None],
}


@pytest.mark.parametrize(("scope", "schedule"), [*((scope, "iterative") for scope in LADDERS), ("erk", "one_shot")])
def test_every_scope_has_the_counts_of_its_ladder(scope: str, schedule: str, digits: ImageData, tmp_path: Path) -> None:
    """Iterative, from level to level, and cut at once from the dense network: the same counts.

    ERK's ratios are 80 : 26 of all weights, so that 829 would give the output 203; of 580 it gets 142. Smart ratio
    leaves the output 0.3 of its 160.
    """
    found = swept(
        digits,
        tmp_path,
        f"pruning.scope={scope}",
        "pruning.fraction=0.3",
        "arms=[ticket, random_mask]",
        f"pruning.schedule={schedule}",
    )
    experiment, _ = found
    ladder = resolve(experiment, DataFacts.of(digits)).counts

    for level, expected in ((1, 829), (2, 580)):
        by_hand = LADDERS[scope][level - 1]
        found_counts = list(zip(*counts_of(found, level), strict=True))
        assert [sum(counts) for counts in found_counts] == [expected] * 2
        if by_hand is not None:
            assert found_counts == [by_hand] * 2 == [tuple(ladder[level].values())] * 2
        drawn = masks_of(found, level, "random_mask")
        assert [tuple(int(drawn[name][row].sum()) for name in TENSORS) for row in range(2)] == found_counts
    if schedule == "iterative":
        first, second = (masks_of(found, level) for level in (1, 2))
        assert not any(bool((second[name] & ~first[name]).any()) for name in TENSORS)


def test_a_layer_that_a_competition_would_empty_is_named_with_the_seeds_and_the_level(
    digits: ImageData, tmp_path: Path
) -> None:
    thin = [*ONE_SHOT, "pruning.densities=[0.005]", "pruning.levels=1", "pruning.criterion=magnitude", "arms=[ticket]"]
    with pytest.raises(LthError) as caught:
        swept(digits, tmp_path, *thin)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("level 1, seeds 0,3: global pruning to 6 weights would leave layer '")
    assert "pruning.allow_empty_layers" in text and "another pruning.scope" in text


@pytest.mark.parametrize("after", ["after_training", "at_initialisation"])
def test_a_network_that_is_cut_in_two_trains_at_chance_where_that_is_allowed(
    after: str, digits: ImageData, tmp_path: Path
) -> None:
    found = swept(
        digits,
        tmp_path,
        *ONE_SHOT,
        f"pruning.when={after}",
        "pruning.densities=[0.1, 0.005]",
        "pruning.allow_empty_layers=true",
        "arms=[ticket, reinit, random_mask]",
        "training.duration=40it",
    )
    largest = float(torch.bincount(digits.test_labels).max()) / len(digits.test_labels)
    rows = rows_of(found)

    cut = [row for row, seed in enumerate(SEEDS) if 0 in list(zip(*counts_of(found, 2), strict=True))[row]]
    assert cut  # that is what is tested
    for row in cut:
        for arm in ("ticket", "reinit", "random_mask"):
            result = rows[arm, 0, 2, SEEDS[row]]
            assert result["status"] == "ok" and result["weights_remaining"] == 6
            assert all(isinstance(result[name], float) for name in ("test_loss", "train_loss", "test_accuracy"))
            assert result["test_accuracy"] <= largest + 1e-12  # the bias says one class: chance
    assert all(row["status"] == "ok" for row in rows.values())


def test_impossible_allocations_are_refused_before_anything_is_trained(digits: ImageData) -> None:
    for scope, density, message in (
        ("uniform", 0.002, r"^level 1 would leave layer '3\.weight' empty \(of 160 weights\); use at most 0"),
        ("smart_ratio", 0.02, r"^pruning\.scope 'smart_ratio' fixes 3\.weight at 0\.3, which does not go with 24"),
    ):
        with pytest.raises(InvalidExperiment, match=message):
            resolve(
                smoke(*ONE_SHOT, f"pruning.scope={scope}", "pruning.levels=1", f"pruning.densities=[{density}]"),
                DataFacts.of(digits),
            )
