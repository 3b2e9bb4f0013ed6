"""Sweeps that remove whole units: what lands in the store, and that training without units is training masked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import functional_call

import lth.results
from lth.arms import Ticket
from lth.data import ImageData, load_dataset
from lth.engine import CohortTraining, Start, choose_program, evaluate, initial_buffers, initialise, make_feed
from lth.engine.named_tensors import mapped, named_tensors
from lth.errors import InvalidExperiment
from lth.experiment import Experiment, load_experiment
from lth.store import Store, Unit
from lth.structured import SmallCohort, alive_units, measure, unit_masks
from lth.sweep import stages
from lth.sweep.handover import Job
from lth.sweep.here import run_here
from lth.sweep.planning import Work
from lth.sweep.setup import DataFacts, Setup, resolve
from lth.sweep.stages import train

SEEDS = (0, 1, 2)
UNITS = ("pruning.remove=units", "pruning.criterion=l1", "model.arguments.hidden=[32, 16]")
SGD = "training.optimizer={kind: sgd, learning_rate: 0.05, momentum: 0.9, weight_decay: 0.01}"
# 30% of what is left, half to even: 32 -> 32 - 10 -> 22 - 7 and 16 -> 16 - 5 -> 11 - 3
WIDTHS = {0: (32, 16), 1: (22, 11), 2: (15, 8)}


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def images() -> ImageData:
    """Noisy 16x16 images of four classes, each a bright quarter: the smallest that VGG's four pools can take."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(320) % 4
    pixels = torch.randint(0, 60, (320, 3, 16, 16), generator=generator, dtype=torch.uint8)
    for label in range(4):
        row, column = 8 * (label // 2), 8 * (label % 2)
        pixels[labels == label, :, row : row + 8, column : column + 8] += 150
    return ImageData("quarters", pixels[:240], labels[:240], pixels[240:], labels[240:], 4)


def units(*settings: str) -> Experiment:
    return load_experiment("smoke", (*UNITS, *settings))


@pytest.fixture(scope="module")
def swept(digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Store]:
    experiment = units("arms=[ticket, reinit, reinit_sign, random_mask, shuffled_mask, dense]")
    store = Store(tmp_path_factory.mktemp("store"))
    run_here(experiment, SEEDS, store, digits)
    return experiment, store


def rows(store: Store, experiment: Experiment) -> dict[tuple[str, int, int], dict[str, object]]:
    """(arm, level, seed) -> what decides the row, and the latency."""
    hidden = {"train_seconds", "examples_per_second", "finished_at", "cohort_size", "latency_seconds"}
    found = store.committed(experiment.id).rows.to_pylist()
    return {
        (row["arm"], row["level"], row["seed"]): {name: row[name] for name in row if name not in hidden}
        for row in found
    }


def masks_of(
    store: Store, experiment: Experiment, arm: str, level: int, seeds: tuple[int, ...] = SEEDS
) -> dict[str, torch.Tensor]:
    where = store.committed(experiment.id).where
    read = store.read_masks(experiment.id, {seed: where[arm, 0, level, seed] for seed in seeds})
    return {name: torch.from_numpy(mask) for name, mask in read.items()}


def job_of(experiment: Experiment, data: ImageData, store: Path | str = "unused") -> Job:
    return Job(experiment, DataFacts.of(data), str(store))


def test_counts_sizes_and_latencies_are_those_worked_out_by_hand(swept: tuple[Experiment, Store]) -> None:
    experiment, store = swept
    found = store.committed(experiment.id).rows.to_pylist()
    assert len(found) == 3 * (1 + 2 * 6)
    for row in found:
        first, second = WIDTHS[0 if row["arm"] == "dense" else row["level"]]
        weights = 64 * first + first * second + second * 10
        assert row["weights_remaining"] == weights and row["weights_total"] == 2048 + 512 + 160
        assert row["density"] == pytest.approx(weights / 2720)
        assert row["parameters"] == weights + first + second + 10
        assert row["flops"] == 2 * weights
        assert 0 < row["latency_seconds"] < 1 and row["status"] == "ok" and row["criterion"] == "l1"
    at_one = {row["weights_remaining"] for row in found if row["level"] == 1 and row["arm"] == "ticket"}
    assert at_one == {64 * 22 + 22 * 11 + 11 * 10}


def test_latency_is_null_where_single_weights_are_pruned(digits: ImageData, tmp_path: Path) -> None:
    experiment, store = load_experiment("smoke", ["arms=[ticket]", "pruning.levels=1"]), Store(tmp_path)
    run_here(experiment, (0,), store, digits)
    assert store.committed(experiment.id).rows["latency_seconds"].to_pylist() == [None, None]


def test_a_ticket_keeps_the_units_of_the_largest_mean_weight(
    swept: tuple[Experiment, Store], digits: ImageData
) -> None:
    experiment, store = swept
    setup = resolve(experiment, DataFacts.of(digits))
    dense = store.read_checkpoint(experiment.id, Unit("ticket", 0, 0, SEEDS).name)
    alive = {level: alive_units(setup.groups, masks_of(store, experiment, "ticket", level)) for level in (1, 2)}
    for group, name, count in ((0, "1.weight", 22), (1, "3.weight", 11)):
        means = np.abs(dense[f"trained/{name}"].numpy()).mean(2)
        for seed in range(3):
            kept = np.flatnonzero(alive[1][group][seed].numpy())
            assert set(kept) == set(np.argsort(means[seed])[-count:])
        assert not (alive[2][group] & ~alive[1][group]).any()


def test_controls_move_whole_units_or_keep_the_tickets(swept: tuple[Experiment, Store], digits: ImageData) -> None:
    experiment, store = swept
    setup = resolve(experiment, DataFacts.of(digits))
    shapes = {tensor.name: tensor.shape for tensor in setup.network.prunable}
    found = rows(store, experiment)
    moved = {}
    for level in (1, 2):
        ticket = masks_of(store, experiment, "ticket", level)
        for arm in ("random_mask", "shuffled_mask"):
            masks = masks_of(store, experiment, arm, level)
            alive = alive_units(setup.groups, masks)
            assert [part.sum(1).tolist() for part in alive] == [[count] * 3 for count in WIDTHS[level]]
            whole = unit_masks(setup.groups, alive, shapes)
            for name, mask in masks.items():
                assert torch.equal(whole[name], mask)  # nothing but what its units write and read
                assert not any(torch.equal(mask[seed], ticket[name][seed]) for seed in range(3))
            moved[arm, level] = torch.cat(alive, 1)
        assert not torch.equal(moved["random_mask", level], moved["shuffled_mask", level])
        for seed in SEEDS:
            own = found["ticket", level, seed]
            assert found["reinit", level, seed]["mask_sha256"] == own["mask_sha256"]
            assert found["reinit_sign", level, seed]["mask_sha256"] == own["mask_sha256"]
            assert len({found[arm, level, seed]["test_loss"] for arm in ("ticket", "reinit", "reinit_sign")}) == 3
            assert found["dense", level, seed]["density"] == 1
            assert found["dense", level, seed]["steps"] == 40 * (level + 1) and own["steps"] == 40


def by_hand(setup: Setup, counts: list[tuple[int, int]]) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Units alive of each group, and masks of the prunable weights: every seed keeps `counts` of its own."""
    generator = torch.Generator().manual_seed(1)
    alive = [torch.zeros(len(counts), group.units, dtype=torch.bool) for group in setup.groups]
    for seed, kept in enumerate(counts):
        for group, count in enumerate(kept):
            alive[group][seed, torch.randperm(alive[group].shape[1], generator=generator)[:count]] = True
    shapes = {tensor.name: tensor.shape for tensor in setup.network.prunable}
    return alive, unit_masks(setup.groups, alive, shapes)


def ticket_of(setup: Setup, seeds: tuple[int, ...], masks: Mapping[str, torch.Tensor]) -> Ticket:
    return Ticket(masks, initialise(setup.network, seeds), initial_buffers(setup.network, seeds))


@pytest.mark.parametrize("settings", [(), (SGD,)], ids=["adam", "sgd"])
def test_training_without_units_is_training_with_their_weights_biases_and_moments_at_zero(
    digits: ImageData, settings: tuple[str, ...]
) -> None:
    job = job_of(units("model.initialisation=own", *settings), digits)  # its biases begin anywhere but at zero
    setup, dataset = job.setup, job.experiment.dataset
    alive, masks = by_hand(setup, [(22, 11)] * 3)
    small = stages.train_unit(job, Work(Unit("ticket", 0, 1, SEEDS), SEEDS, ()), ticket_of(setup, SEEDS, masks), digits)

    feed = make_feed(digits, SEEDS, dataset.validation, digits.transform(dataset.standardise))
    start = Start(initialise(setup.network, SEEDS), {}, setup.mask_rows(masks))
    whole = CohortTraining(setup.network, setup.retraining.recipe, feed, start).advance().result()
    found = small.result
    assert found.early_stop_step.equal(whole.early_stop_step)
    for ours, masked in ((found.end, whole.end), (found.early_stop, whole.early_stop)):
        np.testing.assert_allclose(ours.weights.numpy(), masked.weights.numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.curves.validation_loss.numpy(), whole.curves.validation_loss.numpy(), atol=1e-5)
    assert float((whole.end.weights - start.weights).abs().max()) > 0.05  # they did train

    trained = setup.network.layout.views(found.end.weights)
    for name, group in (("1", 0), ("3", 1)):
        gone = ~alive[group]
        assert (trained[f"{name}.weight"][gone] == 0).all() and (trained[f"{name}.bias"][gone] == 0).all()
        assert (trained[f"{name}.bias"][alive[group]] != 0).all()
    assert (trained["5.weight"].transpose(1, 2)[~alive[1]] == 0).all()
    pruned = ~setup.mask_rows(masks)
    assert (found.end.weights[pruned] == 0).all()


def test_seeds_of_unlike_counts_come_back_in_their_own_order_and_to_the_bit(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds, counts = (0, 1, 2, 3, 4), [(20, 9), (12, 12), (25, 4), (20, 9), (12, 12)]
    job = job_of(units(), digits)
    _, masks = by_hand(job.setup, counts)
    monkeypatch.setattr(train, "CPU_BLOCK_BYTES", 1)  # one seed a block, too
    ticket = ticket_of(job.setup, seeds, masks)
    progress: list[int] = []
    whole = Work(Unit("ticket", 0, 1, seeds), seeds, ())
    together = named_tensors(stages.train_unit(job, whole, ticket, digits, progress.append).result)
    monkeypatch.undo()
    again = named_tensors(stages.train_unit(job, whole, ticket, digits).result)
    assert sum(progress) == 5 * 40
    for row, seed in enumerate(seeds):
        own = mapped(ticket, lambda tensor, row=row: tensor[row : row + 1])
        one = Work(Unit("ticket", 0, 1, (seed,)), (seed,), ())
        alone = named_tensors(stages.train_unit(job, one, own, digits).result)
        for name in set(alone) - {"curves/steps", "seconds"}:
            torch.testing.assert_close(alone[name][0], together[name][row], rtol=0, atol=0, equal_nan=True, msg=name)
            torch.testing.assert_close(alone[name][0], again[name][row], rtol=0, atol=0, equal_nan=True, msg=name)


def test_in_global_scope_a_seed_keeps_units_of_its_own_layers_and_is_the_same_alone(
    digits: ImageData, tmp_path: Path
) -> None:
    # 64-32-64-10: both hidden layers begin with weights of the same spread, 2 / (64 + 32)
    experiment = units(
        "model.arguments.hidden=[32, 64]", "pruning.scope=global", "pruning.levels=1", "arms=[ticket, random_mask]"
    )
    together, alone = Store(tmp_path / "together"), Store(tmp_path / "alone")
    run_here(experiment, SEEDS, together, digits)
    run_here(experiment, SEEDS, alone, digits, cohort_size=1)
    assert rows(together, experiment) == rows(alone, experiment)
    groups = resolve(experiment, DataFacts.of(digits)).groups
    alive = alive_units(groups, masks_of(together, experiment, "ticket", 1))
    counts = torch.stack([part.sum(1) for part in alive], 1)
    assert counts.sum(1).tolist() == [96 - 29] * 3  # 30% of 96 units is 28.8
    assert len({tuple(seed) for seed in counts.tolist()}) > 1
    drawn = alive_units(groups, masks_of(together, experiment, "random_mask", 1))
    assert torch.equal(torch.stack([part.sum(1) for part in drawn], 1), counts)


@pytest.mark.parametrize(
    ("rewinding", "first", "source"),
    [("{kind: step, step: 15it}", 15, "rewind/"), ("{kind: learning_rate}", 0, "trained/")],
)
def test_units_are_removed_from_the_weights_that_the_ticket_is_rewound_to(
    digits: ImageData, tmp_path: Path, rewinding: str, first: int, source: str
) -> None:
    experiment, store = units(f"rewinding={rewinding}", "arms=[ticket, reinit]", "pruning.levels=1"), Store(tmp_path)
    run_here(experiment, SEEDS, store, digits)
    setup, dataset = resolve(experiment, DataFacts.of(digits)), experiment.dataset
    saved = store.read_checkpoint(experiment.id, Unit("ticket", 0, 0, SEEDS).name)
    weights = setup.network.layout.rows({slot.name: saved[source + slot.name] for slot in setup.network.layout.slots})
    weights *= setup.mask_rows(masks_of(store, experiment, "ticket", 1))
    feed = make_feed(digits, SEEDS, dataset.validation, digits.transform(dataset.standardise))
    objective = setup.recipe.objective
    program = choose_program(setup.network, objective, SEEDS, feed.device, "float32")
    loss, _ = evaluate(program, objective, weights, {}, feed, "validation")
    curve = lth.results.open(store.url).query(
        "SELECT step, loss FROM metrics WHERE level = 1 AND arm = 'ticket' AND split = 'val' ORDER BY step, seed"
    )
    assert curve["step"].to_pylist()[:3] == [first] * 3
    np.testing.assert_allclose(curve["loss"].to_pylist()[:3], loss.numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "scope"),
    [
        ("{name: vgg11, arguments: {width: 0.0625}}", "global"),
        ("{name: resnet, arguments: {depth: 8, width: 4}}", "layer"),
        ("{name: resnet, arguments: {depth: 8, width: 4, shortcut: padding}}", "layer"),
    ],
    ids=["vgg", "resnet", "padding"],
)
def test_a_convolutional_ticket_is_the_smaller_network_that_it_says_it_is(
    images: ImageData, tmp_path: Path, model: str, scope: str
) -> None:
    experiment = load_experiment(
        "smoke",
        [
            f"model={model}",
            "dataset.validation=40",
            "training.duration=12it",
            "training.evaluate_every=6it",
            "pruning.remove=units",
            "pruning.criterion=bn_scale",
            f"pruning.scope={scope}",
            "pruning.fraction=0.3",
            "arms=[ticket]",
            "training.optimizer.learning_rate=0.02",
        ],
    )
    store, seeds = Store(tmp_path), (0, 1)
    run_here(experiment, seeds, store, images)
    setup, found = resolve(experiment, DataFacts.of(images)), rows(store, experiment)
    masks = masks_of(store, experiment, "ticket", 2, seeds)
    trained = store.read_checkpoint(experiment.id, Unit("ticket", 0, 2, seeds).name)
    buffers = {
        name.removeprefix("trained/buffers/"): tensor
        for name, tensor in trained.items()
        if name.startswith("trained/buffers/")
    }
    weights = setup.network.layout.rows(
        {slot.name: trained[f"trained/{slot.name}"] for slot in setup.network.layout.slots}
    )
    feed = make_feed(images, seeds, 40, images.transform("channel"))
    mean, scale = (feed.fitted[name].view(-1, 1, 1, 1, 1) for name in ("mean", "scale"))
    standard = (images.test_inputs.float() - mean) * scale
    alive = alive_units(setup.groups, masks)
    for row, seed in enumerate(seeds):
        small = SmallCohort(setup.network, setup.groups, [part[row : row + 1] for part in alive])
        size = measure(small.network.module, images.input_shape, repeats=1)
        said = found["ticket", 2, seed]
        assert (said["parameters"], said["flops"]) == (size.parameters, size.flops)
        assert size.parameters < sum(slot.size for slot in setup.network.layout.slots)
        rows_, small_buffers = small.cut(
            weights[row : row + 1], {name: buffer[row : row + 1] for name, buffer in buffers.items()}
        )
        tensors = {name: tensor[0] for name, tensor in {**small.network.layout.views(rows_), **small_buffers}.items()}
        with torch.no_grad():
            logits = functional_call(small.network.module.eval(), tensors, (standard[row],))
        assert float((logits.argmax(1) == images.test_labels).double().mean()) == said["test_accuracy"]
    assert found["ticket", 0, 0]["test_accuracy"] > 0.5  # chance is a quarter


def test_operations_of_layers_that_only_read_removed_units_shrink_too(digits: ImageData, tmp_path: Path) -> None:
    experiment, store = units("model.prunable=[1.weight]", "arms=[ticket]", "pruning.levels=1"), Store(tmp_path)
    run_here(experiment, (0,), store, digits)
    row = rows(store, experiment)["ticket", 1, 0]
    assert row["weights_remaining"] == 64 * 22 and row["weights_total"] == 2048
    assert row["parameters"] == 64 * 22 + 22 * 16 + 16 * 10 + 22 + 16 + 10
    assert row["flops"] == 2 * (64 * 22 + 22 * 16 + 16 * 10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("pruning.criterion=bn_scale",), "bn_scale needs a batch norm on the units of '1.weight'"),
        (
            ("pruning.scope=global", "pruning.fraction=0.9", "pruning.levels=2"),
            "level 2 would leave 1 units for 2 groups",
        ),
        (("pruning.scope=global", "pruning.fraction={dense: 0.3, conv: 0.1}", "model={name: conv2}"), "one fraction"),
        (
            ("pruning.fraction=0.9", "pruning.levels=2"),
            "level 2 would leave no unit of '1.weight'; use at most 1 levels",
        ),
    ],
    ids=["no-norm", "too-few", "two-fractions", "empty"],
)
def test_what_cannot_be_removed_is_refused_in_one_line_before_anything_trains(
    digits: ImageData, tmp_path: Path, settings: tuple[str, ...], message: str
) -> None:
    named = UNITS[:2] if any("model" in setting for setting in settings) else UNITS
    experiment, store = load_experiment("smoke", (*named, *settings)), Store(tmp_path)
    with pytest.raises(InvalidExperiment, match=message) as refused:
        resolve(experiment, DataFacts.of(digits))
    assert "\n" not in str(refused.value)
    with pytest.raises(InvalidExperiment, match=message):
        run_here(experiment, (0,), store, digits)
    assert not store.committed(experiment.id).where
