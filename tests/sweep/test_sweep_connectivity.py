"""Connectivity of a sweep's networks: which copies are trained, from what, and what is still to be measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch.func import functional_call

from lth.analysis.connectivity import Copy
from lth.data import ImageData, load_dataset
from lth.engine import CohortTraining, Feed, Start, initialise, make_feed
from lth.errors import LthError
from lth.experiment import Experiment, load_experiment
from lth.store import Store, Unit
from lth.store.schemas import CONNECTIVITY
from lth.sweep import connectivity
from lth.sweep.connectivity import Connection, Measure, connect, connections, missing
from lth.sweep.handover import Job
from lth.sweep.here import run_here
from lth.sweep.planning import Done, Key
from lth.sweep.setup import DataFacts

SEEDS = (0, 1, 2)
PAIR = Measure(copies=2, points=3)
ARMS = [("ticket", 0), ("reinit", 0), ("random_mask", 0)]


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_dataset("digits")


def job_of(experiment: Experiment, data: ImageData, store: str = "unused") -> Job:
    return Job(experiment, DataFacts.of(data), store)


def feed_of(job: Job, data: ImageData, seeds: tuple[int, ...]) -> Feed:
    dataset = job.experiment.dataset
    return make_feed(data, seeds, dataset.validation, data.transform(dataset.standardise))


def dense(seeds: tuple[int, ...] = SEEDS, step: int = 0) -> Connection:
    return Connection(Unit("ticket", 0, 0, seeds), step, {})


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> dict[str, Copy]:
    """What the last path led between, by its end: "a" and "b"."""
    seen: dict[str, Copy] = {}
    measured = connectivity.path_errors

    def watched(*arguments: Any, **options: Any) -> Any:
        seen.update(zip("ab", arguments[4:6], strict=True))
        return measured(*arguments, **options)

    monkeypatch.setattr(connectivity, "path_errors", watched)
    return seen


@pytest.mark.parametrize("step", [0, 13])
def test_copies_begin_at_the_weights_of_step_k_and_see_other_batches(
    digits: ImageData, copies: dict[str, Copy], step: int
) -> None:
    job = job_of(load_experiment("smoke"), digits)
    rows = connect(job, dense(step=step), PAIR, digits).to_pylist()
    assert [(row["seed"], row["step"], row["copy_a"], row["copy_b"]) for row in rows] == [
        (seed, step, 1, 2) for seed in SEEDS
    ]

    network, recipe, feed = job.setup.network, job.setup.recipe, feed_of(job, digits, SEEDS)
    everything = torch.ones(3, network.layout.width, dtype=torch.bool)
    whole = CohortTraining(network, recipe, feed, Start(initialise(network, SEEDS), {}, everything)).advance(until=step)
    start = Start(whole.weights.clone(), {}, everything, step)
    own = whole.advance().weights
    for number, end in ((1, "a"), (2, "b")):
        by_hand = CohortTraining(network, replace(recipe, copy=number), feed, start).advance()
        assert by_hand.step == 40 and torch.equal(by_hand.weights, copies[end][0])
        assert not torch.equal(copies[end][0], own)  # a seed's own order is that of no copy
    assert not any(torch.equal(a, b) for a, b in zip(copies["a"][0], copies["b"][0], strict=True))


def test_a_copy_is_the_same_in_every_call_and_every_cohort(
    digits: ImageData, copies: dict[str, Copy], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(load_experiment("smoke"), digits)
    three = connect(job, dense(step=10), Measure(3, 3), digits).to_pylist()
    second, third = copies["a"][0].clone(), copies["b"][0].clone()
    pair = connect(job, dense(step=10), PAIR, digits).to_pylist()
    first = copies["a"][0].clone()
    assert torch.equal(copies["b"][0], second) and not torch.equal(second, third)
    assert [row for row in three if (row["copy_a"], row["copy_b"]) == (1, 2)] == pair and len(three) == 9
    assert connect(job, dense(step=10), PAIR, digits).to_pylist() == pair
    assert connect(job, dense((1,), step=10), PAIR, digits).to_pylist() == [pair[1]]
    assert torch.equal(copies["a"][0][0], first[1])
    monkeypatch.setattr("lth.sweep.stages.train.CPU_BLOCK_BYTES", 1)  # one seed a block
    assert connect(job, dense(step=10), PAIR, digits).to_pylist() == pair


@pytest.fixture(scope="module")
def swept(digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, dict[Key, Done]]:
    experiment = load_experiment("smoke")
    store = Store(tmp_path_factory.mktemp("store"))
    return job_of(experiment, digits, store.url), run_here(experiment, SEEDS, store, digits)


def planned(
    job: Job, done: dict[Key, Done], measure: Measure = PAIR, known: pa.Table | None = None, **other: Any
) -> list[Connection]:
    asked: dict[str, Any] = {"arms": ARMS, "levels": [0, 2], "steps": [0, 20], "seeds": SEEDS, "cohort_size": 2}
    return connections(
        **{**asked, **other}, done=done, measure=measure, known=CONNECTIVITY.empty_table() if known is None else known
    )


def test_arms_that_start_afresh_part_at_step_0_and_level_0_is_the_dense_network(
    swept: tuple[Job, dict[Key, Done]],
) -> None:
    found = [(item.unit.arm, item.unit.level, item.step, item.unit.seeds) for item in planned(*swept)]
    expected = [
        ("ticket", 0, 0),
        ("ticket", 0, 20),
        ("ticket", 2, 0),
        ("ticket", 2, 20),
        ("reinit", 2, 0),
        ("random_mask", 2, 0),
        ("random_mask", 2, 20),
    ]
    assert found == [(*place, seeds) for place in expected for seeds in ((0, 1), (2,))]


def test_seeds_without_a_mask_are_left_out(swept: tuple[Job, dict[Key, Done]]) -> None:
    job, done = swept
    lost = {**done, ("ticket", 0, 2, 1): replace(done["ticket", 0, 2, 1], diverged=True, has_mask=False)}
    found = planned(job, lost, arms=[("random_mask", 0)], levels=[2], steps=[0])
    assert [item.unit.seeds for item in found] == [(0, 2)]
    assert found[0].masks_from == {0: done["ticket", 0, 2, 0].unit, 2: done["ticket", 0, 2, 2].unit}
    assert planned(job, {}, levels=[2]) == []


def test_only_what_has_not_been_measured_so_is_planned(swept: tuple[Job, dict[Key, Done]], digits: ImageData) -> None:
    job, done = swept
    some = Connection(Unit("ticket", 0, 0, (0, 2)), 0, {})
    known = connect(job, some, Measure(3, 3), digits)

    def seeds(measure: Measure, **other: Any) -> list[tuple[int, ...]]:
        asked: dict[str, Any] = {"levels": [0], "steps": [0], "cohort_size": 3, **other}
        return [item.unit.seeds for item in planned(job, done, measure, known, **asked)]

    assert seeds(Measure(3, 3)) == seeds(Measure(2, 3)) == [(1,)]
    assert seeds(Measure(3, 3), seeds=(0, 2)) == []
    for other in (Measure(4, 3), Measure(3, 5), Measure(3, 3, "interpolate"), Measure(3, 3, splits=("test", "train"))):
        assert seeds(other) == [SEEDS]
    assert seeds(Measure(3, 3), steps=[0, 20]) == [(1,), SEEDS]
    # A pair that is missing is measured again; nothing that was measured gets lost in the table.
    known = known.filter(pa.array([row["copy_b"] != 3 or row["seed"] != 2 for row in known.to_pylist()]))
    assert seeds(Measure(3, 3)) == [(1, 2)] and seeds(Measure(2, 3)) == [(1,)]


def test_what_was_measured_otherwise_stays_beside_it(digits: ImageData, tmp_path: Any) -> None:
    job, store = job_of(load_experiment("smoke"), digits), Store(tmp_path)
    measures = (PAIR, Measure(2, 4), Measure(2, 3, "interpolate"), Measure(2, 3, splits=("train", "test")))
    for measure in measures:
        store.put_analysis("connectivity", job.experiment.id, connect(job, dense((0,)), measure, digits))
    rows = store.read_analysis("connectivity", job.experiment.id)[0].to_pylist()
    assert sorted((row["points"], row["batch_norm"], row["split"]) for row in rows) == [
        (3, "interpolate", "test"),
        (3, "recompute", "test"),
        (3, "recompute", "train"),
        (4, "recompute", "test"),
    ]


def test_levels_that_a_deeper_sweep_committed_are_found(swept: tuple[Job, dict[Key, Done]]) -> None:
    job, _ = swept
    shallow = replace(job, experiment=load_experiment("smoke", ["pruning.levels=1", "arms=[ticket]"]))
    assert shallow.experiment.id == job.experiment.id
    found = missing(shallow, SEEDS, [1, 2], ["ticket"], ["0it", "0ep"], PAIR, 8)  # 0it is 0ep
    assert [(item.unit.level, item.step, item.unit.seeds) for item in found] == [(1, 0, SEEDS), (2, 0, SEEDS)]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"arms": ["ticket", "dense"]}, "arm 'dense' is not one of the experiment's: random_mask, reinit, ticket"),
        ({"levels": [0, 3]}, "level 3 of smoke-.* has no masks"),
        ({"levels": [1], "seeds": (7,)}, "level 1 of smoke-.* has no masks"),
        ({"steps": ["1ep", "40it"]}, "step 40it is past the end of a training of 40 steps"),
        ({"steps": ["2ep"]}, "step 2ep is past the end"),  # 1237 examples are 38 batches of 32
        ({"steps": ["soon"]}, "step 'soon' cannot be read"),
    ],
    ids=str,
)
def test_what_there_is_not_is_refused_in_one_line(
    swept: tuple[Job, dict[Key, Done]], asked: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"seeds": SEEDS, "levels": [0], "arms": ["ticket"], "steps": ["0it"], **asked}
    with pytest.raises(LthError, match=message) as refused:
        missing(swept[0], **arguments, measure=PAIR, cohort_size=3)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("settings", [{"copies": 1}, {"points": 2}, {"splits": ("val",)}], ids=str)
def test_a_measure_that_makes_no_path_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(LthError, match="two copies and three points|'val' is unknown"):
        Measure(**settings)


@pytest.mark.parametrize("arm", ["ticket", "random_mask", "reinit"])
def test_above_level_0_copies_have_the_committed_mask_of_their_arm(
    swept: tuple[Job, dict[Key, Done]], digits: ImageData, copies: dict[str, Copy], arm: str
) -> None:
    job, done = swept
    step = 0 if arm == "reinit" else 20
    (connection,) = planned(job, done, arms=[(arm, 0)], levels=[2], steps=[step], cohort_size=3)
    rows = connect(job, connection, PAIR, digits).to_pylist()
    assert {(row["arm"], row["level"], row["step"]) for row in rows} == {(arm, 2, step)}
    masks = job.store.read_masks(job.experiment.id, {seed: done[arm, 0, 2, seed].unit for seed in SEEDS})
    for weights, _ in copies.values():
        views = job.setup.network.layout.views(weights)
        for name, mask in masks.items():
            assert (views[name].numpy() != 0).sum() >= mask.sum() * 0.9
            assert (views[name].numpy()[~mask] == 0).all()


def test_removed_units_are_gone_from_copies_with_their_biases(
    digits: ImageData, copies: dict[str, Copy], tmp_path: Any
) -> None:
    experiment = load_experiment(
        "smoke", ["pruning.remove=units", "pruning.criterion=l1", "arms=[ticket]", "pruning.levels=1"]
    )
    store = Store(tmp_path)
    done = run_here(experiment, SEEDS, store, digits)
    job = job_of(experiment, digits, store.url)
    (connection,) = planned(job, done, arms=[("ticket", 0)], levels=[1], steps=[10], cohort_size=3)
    connect(job, connection, PAIR, digits)
    views = job.setup.network.layout.views(copies["a"][0])
    removed = (views["1.weight"] == 0).all(2)
    assert removed.sum(1).tolist() == [5] * 3  # 30% of 16 units is 4.8
    assert (views["1.bias"][removed] == 0).all() and (views["3.weight"].transpose(1, 2)[removed] == 0).all()


def test_a_dense_control_is_trained_for_its_whole_budget(
    swept: tuple[Job, dict[Key, Done]], digits: ImageData, copies: dict[str, Copy]
) -> None:
    job, done = swept
    (connection,) = planned(job, done, arms=[("dense", 0)], levels=[2], steps=[0], cohort_size=3)
    connect(job, connection, PAIR, digits)
    network, feed = job.setup.network, feed_of(job, digits, SEEDS)
    recipe = replace(job.setup.recipe, steps=3 * 40, copy=1)
    start = Start(initialise(network, SEEDS), {}, torch.ones(3, network.layout.width, dtype=torch.bool))
    assert torch.equal(CohortTraining(network, recipe, feed, start).advance().weights, copies["a"][0])


def test_the_ends_of_a_path_are_the_errors_of_the_copies(digits: ImageData, copies: dict[str, Copy]) -> None:
    job = job_of(load_experiment("smoke"), digits)
    rows = connect(job, dense(), Measure(2, 3, splits=("test",)), digits).to_pylist()
    network, feed = job.setup.network, feed_of(job, digits, SEEDS)
    images = (digits.test_inputs.float() - feed.fitted["mean"].view(-1, 1, 1, 1, 1)) * feed.fitted["scale"].view(
        -1, 1, 1, 1, 1
    )
    for end, copy in copies.items():
        views = network.layout.views(copy[0])
        for number, row in enumerate(rows):
            logits = functional_call(
                network.module, {name: view[number] for name, view in views.items()}, (images[number],)
            )
            wrong = float((logits.argmax(1) != digits.test_labels).double().mean())
            assert row[f"error_{end}"] == pytest.approx(wrong) == row["errors"][-1 if end == "a" else 0]


def test_the_barrier_falls_when_copies_part_late(digits: ImageData) -> None:
    job = job_of(
        load_experiment(
            "smoke",
            ["training.duration=300it", "training.optimizer.learning_rate=0.05", "model.arguments.hidden=[16, 16]"],
        ),
        digits,
    )
    measure = Measure(2, 7, splits=("test", "train"))
    early, late = (connect(job, dense(step=step), measure, digits).to_pylist() for step in (0, 280))
    assert len(early) == len(late) == 2 * 3
    assert min(row["barrier"] for row in early) > 0.1 and min(row["loss_barrier"] for row in early) > 0.2
    assert max(row["barrier"] for row in late) < 0.02  # what Frankle et al. (2020) call stable
