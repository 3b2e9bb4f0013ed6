"""Every way of rewinding: what a pruned network starts from, at which step and rates; and the controls beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from lth.data import ImageData, load_dataset
from lth.engine import CohortTraining, Recipe, Start, initialise, learning_rate, make_feed
from lth.engine.optimizers import SGD
from lth.engine.schedules import SCHEDULES, StepDecay
from lth.errors import LthError
from lth.experiment import Experiment, load_experiment
from lth.rewinding import (
    FineTune,
    NoRewinding,
    Retraining,
    RewindLearningRate,
    RewindToInit,
    RewindToStep,
    stretched,
)
from lth.store import Store, Unit
from lth.store.unit import checkpoint_key
from lth.sweep import stages
from lth.sweep.here import run_here
from lth.sweep.setup import DataFacts, Setup, resolve

SEEDS = (0, 3)
WARM_AND_DROPS = "training.schedule={kind: step, warmup: 4it, milestones: [20it, 30it], factor: 0.1}"
WIDE, OUT = "1.weight", "3.weight"  # [16, 64] and [10, 16]


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_dataset("digits")


@dataclass
class Training:
    """What a unit's training was given and came to: rows [seeds, width], bool masks, rates step by step."""

    recipe: Recipe
    first_step: int
    start: torch.Tensor
    mask: torch.Tensor
    batches: list[torch.Tensor] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    end: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    steps: tuple[int, ...] = ()


@dataclass
class Sweep:
    experiment: Experiment
    store: Store
    setup: Setup
    trainings: dict[tuple[str, int, int], Training]  # arm, draw, level

    def rows(self) -> dict[tuple[str, int, int, int], dict[str, object]]:
        found = self.store.committed(self.experiment.id).rows.to_pylist()
        timing = ("train_seconds", "examples_per_second", "finished_at", "cohort_size")
        return {
            (row["arm"], row["draw"], row["level"], row["seed"]): {
                name: value for name, value in row.items() if name not in timing
            }
            for row in found
        }


def sweep(
    digits: ImageData, folder: Path, monkeypatch: pytest.MonkeyPatch, *settings: str, seeds: tuple[int, ...] = SEEDS
) -> Sweep:
    """A sweep of the smoke preset in this process, its store in memory, with every training watched."""
    experiment, store = load_experiment("smoke", settings), Store(f"memory://{folder}")
    watched: dict[tuple[str, int, int], Training] = {}
    now = [("trained again", 0, 0)]

    class Watched(CohortTraining):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            seen = Training(self.recipe, self.step, self.weights.clone(), arguments[3].mask)  # type: ignore[attr-defined]
            watched[now[-1]] = seen
            step, batches = self.updates.step, self.batches

            def stepping(rate: float) -> None:
                seen.rates.append(rate)
                step(rate)

            def giving(number: int) -> tuple[torch.Tensor, torch.Tensor]:
                found, labels = batches(number)
                seen.batches.append(labels.clone())
                return found, labels

            self.updates.step = stepping  # type: ignore[method-assign]
            self.batches = giving  # type: ignore[assignment]

    train = stages.train_unit

    def training(job, work, *, ticket, data):  # type: ignore[no-untyped-def]
        now.append((work.unit.arm, work.unit.draw, work.unit.level))
        trained = train(job, work, ticket, data)
        seen = watched[now.pop()]
        seen.end, seen.steps = trained.result.end.weights, tuple(trained.result.curves.steps.tolist())
        return trained

    with monkeypatch.context() as patch:
        patch.setattr("lth.sweep.stages.train.CohortTraining", Watched)
        patch.setattr("lth.sweep.unit.train_unit", training)
        run_here(experiment, seeds, store, digits)
    return Sweep(experiment, store, resolve(experiment, DataFacts.of(digits)), watched)


def assert_starts_from(training: Training, weights: torch.Tensor) -> None:
    """From these weights with the pruned ones at zero, and with nothing else."""
    assert torch.equal(training.start, weights.masked_fill(~training.mask, 0.0))
    assert int((~training.mask).sum()) > 0


def masks_of(found: Sweep, arm: str, level: int, draw: int = 0, seeds: tuple[int, ...] = SEEDS) -> torch.Tensor:
    where = found.store.committed(found.experiment.id).where
    read = found.store.read_masks(found.experiment.id, {seed: where[arm, draw, level, seed] for seed in seeds})
    return found.setup.network.masks({name: torch.from_numpy(mask) for name, mask in read.items()})


def test_to_init(digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = sweep(digits, tmp_path, monkeypatch, WARM_AND_DROPS, "arms=[ticket]")
    initial, dense = initialise(found.setup.network, SEEDS), found.trainings["ticket", 0, 0]

    assert torch.equal(dense.start, initial)
    assert dense.rates == pytest.approx([0.00125, 0.0025, 0.00375] + [0.005] * 17 + [0.0005] * 10 + [0.00005] * 10)
    for level in (1, 2):
        ticket = found.trainings["ticket", 0, level]
        assert_starts_from(ticket, initial)
        assert torch.equal(ticket.mask, masks_of(found, "ticket", level))
        assert (ticket.first_step, ticket.rates) == (0, dense.rates)
        assert all(torch.equal(one, other) for one, other in zip(ticket.batches, dense.batches, strict=True))


def test_to_step_k(digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = sweep(
        digits,
        tmp_path,
        monkeypatch,
        WARM_AND_DROPS,
        "rewinding={kind: step, step: 13it}",
        "arms=[ticket, random_mask, reinit]",
    )
    dense = found.trainings["ticket", 0, 0]
    # The dense training to step 13, once more and by itself.
    feed = make_feed(digits, SEEDS, 200, digits.transform("channel"))
    again = CohortTraining(
        found.setup.network,
        found.setup.recipe,
        feed,
        Start(initialise(found.setup.network, SEEDS), {}, torch.ones_like(dense.mask)),
    ).advance(13)

    for level in (1, 2):
        for arm in ("ticket", "random_mask"):
            training = found.trainings[arm, 0, level]
            assert_starts_from(training, again.weights)
            assert (training.first_step, training.rates) == (13, dense.rates[13:])
            assert training.steps == (13, 20, 30, 40)
            assert all(torch.equal(one, other) for one, other in zip(training.batches, dense.batches[13:], strict=True))
        assert not torch.equal(found.trainings["random_mask", 0, level].mask, found.trainings["ticket", 0, level].mask)
        fresh = found.trainings["reinit", 0, level]
        assert (fresh.first_step, fresh.rates) == (0, dense.rates)


def test_learning_rate_rewinding(digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained weights stay; the schedule starts again with its warm-up and drops again."""
    found = sweep(
        digits,
        tmp_path,
        monkeypatch,
        WARM_AND_DROPS,
        "rewinding={kind: learning_rate}",
        "arms=[ticket, random_mask, shuffled_mask, reinit]",
    )
    dense = found.trainings["ticket", 0, 0]

    for level in (1, 2):
        parent = found.trainings["ticket", 0, level - 1]
        for arm in ("ticket", "random_mask", "shuffled_mask"):  # the controls go on from the ticket's parent, too
            training = found.trainings[arm, 0, level]
            assert_starts_from(training, parent.end)
            assert (training.first_step, training.rates, training.steps) == (0, dense.rates, (0, 10, 20, 30, 40))
        assert not torch.equal(found.trainings["random_mask", 0, level].mask, found.trainings["ticket", 0, level].mask)
        fresh = found.trainings["reinit", 0, level]
        assert fresh.rates == dense.rates and not torch.equal(fresh.start, parent.end.masked_fill(~fresh.mask, 0.0))
        # The mask is cut from the weights that stay: of each layer the largest.
        ticket, before = found.trainings["ticket", 0, level], found.setup.network.layout.views(parent.end.abs())
        after = found.setup.network.layout.views(ticket.mask)
        for name in (WIDE, OUT):
            for row in range(len(SEEDS)):
                assert before[name][row][after[name][row]].min() >= before[name][row][~after[name][row]].max()


@pytest.mark.parametrize(
    ("schedule", "last"),
    [
        (WARM_AND_DROPS, 0.005 * 0.01),
        ("training.schedule={kind: constant, warmup: 5it}", 0.005),
        ("training.schedule={kind: cosine}", 0.005 * 0.5 * (1 + np.cos(np.pi * 39 / 40))),
    ],
)
def test_fine_tuning(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str, last: float
) -> None:
    """Trained weights stay, and every step's rate is the last one of the schedule."""
    found = sweep(
        digits, tmp_path, monkeypatch, schedule, "rewinding={kind: fine_tune}", "arms=[ticket, random_mask, reinit]"
    )
    recipe = found.setup.retraining.recipe
    assert [learning_rate(recipe, step) for step in range(40)] == pytest.approx([last] * 40)

    dense = found.trainings["ticket", 0, 0]
    assert dense.rates[-1] == pytest.approx(last)
    for level in (1, 2):
        parent = found.trainings["ticket", 0, level - 1]
        for arm in ("ticket", "random_mask"):
            training = found.trainings[arm, 0, level]
            assert_starts_from(training, parent.end)
            assert training.first_step == 0
            assert training.rates == pytest.approx([last] * 40)
        # Fresh weights are trained like the dense network, whatever the rewinding.
        assert found.trainings["reinit", 0, level].rates == dense.rates


@pytest.mark.parametrize(
    ("duration", "steps"),
    [("12it", (0, 10, 12)), ("3it", (0, 3)), ("1ep", (0, 10, 20, 30, 38)), ("61it", (0, 10, 20, 30, 40, 50, 60, 61))],
)
def test_fine_tuning_for_another_while(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, duration: str, steps: tuple[int, ...]
) -> None:
    """1437 - 200 training images are 38 batches of 32."""
    found = sweep(
        digits,
        tmp_path,
        monkeypatch,
        f"rewinding={{kind: fine_tune, duration: {duration}}}",
        "arms=[ticket, reinit]",
        "pruning.levels=1",
    )

    assert found.trainings["ticket", 0, 1].steps == steps
    assert found.trainings["ticket", 0, 1].rates == [0.005] * steps[-1]
    assert found.trainings["ticket", 0, 0].steps == (0, 10, 20, 30, 40) == found.trainings["reinit", 0, 1].steps
    assert found.rows()["ticket", 0, 1, 0]["steps"] == steps[-1]


def accuracy(found: Sweep, digits: ImageData, rows: torch.Tensor, position: int) -> float:
    """Of the test set, in NumPy: standardise, two matrices, ReLU between."""
    train = make_feed(digits, SEEDS, 200, digits.transform("none")).train[position]
    pixels = digits.train_inputs[train].double()
    inputs = ((digits.test_inputs.double() - pixels.mean()) / pixels.std(correction=0)).flatten(1).numpy()
    views = found.setup.network.layout.views(rows)
    weights = {name: view[position].double().numpy() for name, view in views.items()}
    hidden = np.maximum(inputs @ weights["1.weight"].T + weights["1.bias"], 0)
    logits = hidden @ weights["3.weight"].T + weights["3.bias"]
    return float((logits.argmax(1) == digits.test_labels.numpy()).mean())


def test_no_rewinding_evaluates_what_is_left_as_it_is(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = sweep(
        digits,
        tmp_path,
        monkeypatch,
        "rewinding={kind: none}",
        "arms=[ticket, random_mask, reinit]",
        "training.duration=200it",
        "training.evaluate_every=50it",
        "pruning.fraction.dense=0.6",
    )
    rows, dense = found.rows(), found.trainings["ticket", 0, 0]

    for level in (1, 2):
        for arm in ("ticket", "random_mask"):
            training = found.trainings[arm, 0, level]
            assert training.rates == [] and training.steps == (200,)  # not one step
            assert_starts_from(training, found.trainings["ticket", 0, level - 1].end)
            assert torch.equal(training.end, training.start)
            for position, seed in enumerate(SEEDS):
                row = rows[arm, 0, level, seed]
                assert row["status"] == "ok" and row["early_stop_step"] == 200
                assert row["test_accuracy"] == pytest.approx(accuracy(found, digits, training.end, position))
                assert row["test_accuracy_at_early_stop"] == row["test_accuracy"]
        assert found.trainings["reinit", 0, level].rates == dense.rates
        assert_starts_from(found.trainings["ticket", 0, level], dense.end)
    # It does measure something: trained, then hurt, and hurt less than by chance.
    means = [
        np.mean([rows[arm, 0, level, seed]["test_accuracy"] for seed in SEEDS])
        for arm, level in (("random_mask", 1), ("ticket", 1), ("ticket", 0))
    ]
    assert means[0] < means[1] < means[2]


@pytest.mark.parametrize("kind", ["learning_rate", "fine_tune", "none"])
def test_a_sweep_that_is_extended_is_the_sweep_at_once(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    settings = ("arms=[ticket, random_mask, reinit]", f"rewinding={{kind: {kind}}}")
    once = sweep(digits, tmp_path / "once", monkeypatch, *settings)
    # One level for one seed, then two for all.
    sweep(digits, tmp_path / "later", monkeypatch, *settings, "pruning.levels=1", seeds=(3,))
    later = sweep(digits, tmp_path / "later", monkeypatch, *settings)

    assert len(once.rows()) == 2 * (1 + 2 * 3)
    assert later.rows() == once.rows()
    for level in (1, 2):
        assert torch.equal(masks_of(once, "random_mask", level), masks_of(later, "random_mask", level))


@pytest.mark.parametrize("kind", ["init", "learning_rate", "fine_tune, duration: 10it"])
def test_one_shot_levels_all_go_on_from_the_dense_network(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    found = sweep(
        digits,
        tmp_path,
        monkeypatch,
        "arms=[ticket, random_mask]",
        "pruning.schedule=one_shot",
        f"rewinding={{kind: {kind}}}",
    )
    dense = found.trainings["ticket", 0, 0]
    source = dense.start if kind == "init" else dense.end

    for level in (1, 2):
        for arm in ("ticket", "random_mask"):
            assert_starts_from(found.trainings[arm, 0, level], source)


def test_the_dense_arm_is_trained_once_for_the_whole_budget(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many steps as the dense network and every ticket up to that level together, the schedule stretched."""
    found = sweep(digits, tmp_path, monkeypatch, WARM_AND_DROPS, "arms=[ticket, dense]")
    rows, initial = found.rows(), initialise(found.setup.network, SEEDS)

    for level in (1, 2):
        training = found.trainings["dense", 0, level]
        assert torch.equal(training.start, initial) and bool(training.mask.all())
        assert len(training.rates) == 40 * (level + 1) == training.steps[-1]
        drops = [step for step in range(1, len(training.rates)) if training.rates[step] < training.rates[step - 1]]
        assert drops == [20 * (level + 1), 30 * (level + 1)]
        assert training.rates[:4] == pytest.approx([0.00125, 0.0025, 0.00375, 0.005])  # the warm-up stays
        assert bool(masks_of(found, "dense", level).all())
        for seed in SEEDS:
            row = rows["dense", 0, level, seed]
            assert (row["density"], row["weights_remaining"], row["steps"]) == (1.0, 1184, 40 * (level + 1))
    assert rows["ticket", 0, 2, 0]["density"] == pytest.approx(618 / 1184)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        (["pruning.schedule=one_shot"], [80, 80]),
        (["rewinding={kind: fine_tune, duration: 5it}"], [45, 50]),
        (["rewinding={kind: none}"], [40, 40]),
        (["rewinding={kind: step, step: 30it}"], [50, 60]),
    ],
)
def test_a_ticket_that_took_less_leaves_the_dense_arm_less(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], steps: list[int]
) -> None:
    """The dense training and every retraining up to the ticket, as long as these really were."""
    found = sweep(digits, tmp_path, monkeypatch, *settings, "arms=[ticket, dense]")

    assert [len(found.trainings["dense", 0, level].rates) for level in (1, 2)] == steps


@pytest.mark.parametrize("kind", ["learning_rate", "fine_tune"])
def test_trained_weights_that_are_gone_are_named_or_trained_again(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    settings = (f"rewinding={{kind: {kind}}}", "arms=[ticket, random_mask]")
    whole = sweep(digits, tmp_path / "whole", monkeypatch, *settings)
    # Those of the dense network can be had again: on a CPU to the bit.
    found = sweep(digits, tmp_path / "store", monkeypatch, *settings, "pruning.levels=0")
    dense = Unit("ticket", 0, 0, SEEDS).name
    found.store.delete_checkpoint(found.experiment.id, dense)
    assert found.store.read(checkpoint_key(found.experiment.id, dense)) is None
    found = sweep(digits, tmp_path / "store", monkeypatch, *settings, "pruning.levels=1")
    expected = {key: row for key, row in whole.rows().items() if key[2] <= 1}
    assert found.rows() == expected
    # Those of a ticket cannot without all levels before.
    found.store.delete_checkpoint(found.experiment.id, Unit("ticket", 0, 1, SEEDS).name)
    gone = Unit("ticket", 0, 1, SEEDS).name
    with pytest.raises(LthError, match=f"{gone}.* was damaged and has been set aside; run again"):
        sweep(digits, tmp_path / "store", monkeypatch, *settings)
    # Its unit is then done again from the level before.
    assert sweep(digits, tmp_path / "store", monkeypatch, *settings).rows() == whole.rows()


def test_of_several_units_the_one_whose_weights_are_gone_is_named(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("rewinding={kind: learning_rate}", "arms=[ticket]")
    experiment, store = load_experiment("smoke", [*settings, "pruning.levels=1"]), Store(tmp_path)
    for seeds in ((0, 1), (2, 3)):
        run_here(experiment, seeds, store, digits, device="cpu")
    lost = Unit("ticket", 0, 1, (2, 3)).name
    store.delete_checkpoint(experiment.id, lost)
    with pytest.raises(LthError, match=f"{lost}.* was damaged and has been set aside"):
        run_here(load_experiment("smoke", list(settings)), (0, 1, 2, 3), store, digits, device="cpu")


RECIPE = Recipe(
    SGD(learning_rate=0.4, momentum=0.0),
    StepDecay(warmup=10, milestones=(50, 75), factor=0.1),
    32,
    100,
    20,
)


def test_how_each_kind_retrains() -> None:
    assert RewindToInit().retraining(RECIPE) == Retraining(0, RECIPE)
    assert RewindToStep(step=60).retraining(RECIPE) == Retraining(60, RECIPE)
    assert RewindLearningRate().retraining(RECIPE) == Retraining(0, RECIPE)
    assert NoRewinding().retraining(RECIPE) == Retraining(100, RECIPE)
    tuned = FineTune(duration=90).retraining(RECIPE)
    assert (tuned.step, tuned.recipe.steps) == (0, 90)
    assert [learning_rate(tuned.recipe, step) for step in (0, 1, 50, 89)] == pytest.approx([0.004] * 4)
    assert FineTune().retraining(RECIPE).recipe.steps == 100
    assert FineTune(duration=9).retraining(RECIPE).recipe.evaluate_every == 9  # else 20, never reached
    # Everything else of the training stays: momentum, augmentation, batch.
    assert (tuned.recipe.batch_size, tuned.recipe.precision) == (32, RECIPE.precision)


@pytest.mark.parametrize("kind", sorted(SCHEDULES))
def test_a_stretched_schedule_has_the_same_rates_at_the_same_part_of_the_way(kind: str) -> None:
    needed = {"step": {"milestones": (50, 75)}, "cosine_restarts": {"period": 40}}
    recipe = Recipe(SGD(learning_rate=0.4), SCHEDULES[kind](**needed.get(kind, {})), 32, 100, 20)
    for times in (1, 2, 5):
        longer = stretched(recipe, 100 * times)
        assert longer.steps == 100 * times
        assert [learning_rate(longer, times * step) for step in range(100)] == pytest.approx(
            [learning_rate(recipe, step) for step in range(100)]
        )
