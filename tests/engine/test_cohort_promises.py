"""The four promises of a cohort (docs: a seed's result never depends on its cohort, its machine or a restart)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from small_networks import convolutional, exact_masks, images, perceptron, recipe, training_of

from lth.engine import Trained, initialise
from lth.engine.named_tensors import named_tensors
from lth.engine.optimizers import SGD, Adam, Optimizer
from lth.engine.updates import AllWeights, SurvivingWeights, make_updates
from lth.engine.watchers import RewindPoint

OPTIMIZERS = {
    "adam": Adam(learning_rate=0.01),
    "adam with weight decay": Adam(learning_rate=0.01, weight_decay=1e-2),
    "sgd": SGD(learning_rate=0.1, momentum=0.0),
    "momentum": SGD(learning_rate=0.05, momentum=0.9, weight_decay=1e-3),
    "nesterov": SGD(learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
}
SEEDS = tuple(range(16))


def of_seed(result: Trained, position: int) -> dict[str, torch.Tensor]:
    return {name: tensor[position] for name, tensor in named_tensors(result).items() if name != "curves/steps"}


def assert_same_bits(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor], where: str) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(
            one[name],
            other[name],
            rtol=0,
            atol=0,
            equal_nan=True,
            msg=lambda text, name=name: f"{where}, {name}: {text}",
        )


@pytest.mark.parametrize("hidden", [(13, 7), (300, 100), (1,)], ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_a_perceptron_has_the_same_bits_alone_and_in_any_cohort(optimizer: Optimizer, hidden: tuple[int, ...]) -> None:
    data = images()
    network, plan = perceptron(data, hidden), recipe(optimizer)
    alone = {
        seed: of_seed(training_of(network, data, (seed,), plan, 0.5).advance().result(), 0) for seed in (0, 1, 2, 7, 15)
    }
    for size in (2, 3, 8, 16):
        result = training_of(network, data, SEEDS[:size], plan, 0.5).advance().result()
        for seed, expected in alone.items():
            if seed < size:
                assert_same_bits(of_seed(result, seed), expected, f"seed {seed} in a cohort of {size}")


@pytest.mark.parametrize("make", [perceptron, convolutional], ids=["perceptron", "convolutional"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_stepping_over_survivors_has_the_same_bits_as_stepping_over_all(make, optimizer: Optimizer) -> None:  # type: ignore[no-untyped-def]
    data = images()
    network, plan = make(data), recipe(optimizer, steps=12)
    results = []
    for way in (AllWeights, SurvivingWeights):
        training = training_of(network, data, (0, 1, 2), plan)
        mask = exact_masks(network, (0, 1, 2), 0.25)
        training.weights.masked_fill_(~mask, 0.0)
        training.state.mask = mask
        training.updates = way(optimizer, training.weights, training.gradient, mask)
        results.append(training.advance().result())
        assert not results[-1].end.weights[~mask].any()
    for position in range(3):
        assert_same_bits(of_seed(results[0], position), of_seed(results[1], position), f"seed {position}")


def test_the_way_of_stepping_follows_from_the_density() -> None:
    data = images()
    network = perceptron(data)
    for density, way in ((1.0, AllWeights), (0.5, AllWeights), (0.1, SurvivingWeights)):
        weights = initialise(network, (0, 1))
        updates = make_updates(Adam(), weights, torch.zeros_like(weights), exact_masks(network, (0, 1), density))
        assert isinstance(updates, way)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_odd_batches_have_the_same_bits_too(batch_size: int) -> None:
    data = images(shape=(1, 5, 5))
    network, plan = perceptron(data), recipe(batch_size=batch_size)
    alone = of_seed(training_of(network, data, (2,), plan, 0.5).advance().result(), 0)
    cohort = training_of(network, data, SEEDS[:8], plan, 0.5).advance().result()
    assert_same_bits(of_seed(cohort, 2), alone, f"batch {batch_size}")


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_convolutional_network_with_batch_norm_has_the_same_bits(dropout: float) -> None:
    data = images()
    network, plan = convolutional(data, dropout), recipe(steps=8, evaluate_every=4)
    assert network.draws_randomness is (dropout > 0)
    alone = {seed: of_seed(training_of(network, data, (seed,), plan, 0.5).advance().result(), 0) for seed in (0, 1, 2)}
    for size in (2, 3, 8, 16):
        result = training_of(network, data, SEEDS[:size], plan, 0.5).advance().result()
        for seed, expected in alone.items():
            if seed < size:
                assert_same_bits(of_seed(result, seed), expected, f"seed {seed} in a cohort of {size}")


@pytest.mark.parametrize("stop", [0, 1, 6, 13, 25])
@pytest.mark.parametrize("kind", ["adam", "momentum"])
@pytest.mark.parametrize("make", [perceptron, convolutional], ids=["perceptron", "convolutional"])
def test_a_restart_from_a_checkpoint_changes_no_bit(make, kind: str, stop: int) -> None:  # type: ignore[no-untyped-def]
    data = images()
    network, plan = make(data), recipe(OPTIMIZERS[kind], watchers=(RewindPoint(step=5),))
    through = training_of(network, data, (3, 4), plan, 0.5).advance().result()
    saved = training_of(network, data, (3, 4), plan, 0.5).advance(stop).checkpoint()
    again = training_of(network, data, (3, 4), plan, 0.5).restore(saved)
    assert again.step == stop
    resumed = again.advance().result()
    assert torch.equal(resumed.curves.steps, through.curves.steps)
    for position in range(2):
        assert_same_bits(of_seed(resumed, position), of_seed(through, position), f"restart at {stop}")
    assert through.rewind_point is not None and resumed.rewind_point is not None
    assert torch.equal(through.rewind_point.weights, resumed.rewind_point.weights)


@pytest.mark.parametrize("make", [perceptron, convolutional], ids=["perceptron", "convolutional"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
@pytest.mark.parametrize("density", [0.5, 0.2])
def test_pruned_weights_are_exactly_zero_after_every_step(make, optimizer: Optimizer, density: float) -> None:  # type: ignore[no-untyped-def]
    data = images()
    network = make(data)
    mask = exact_masks(network, (0, 1), density)
    training = training_of(network, data, (0, 1), recipe(optimizer, steps=12), density)
    alive_before = training.weights[mask].clone()
    for step in range(1, 13):
        training.advance(step)
        assert not training.weights[~mask].any(), f"a pruned weight moved at step {step}"
    assert (~mask).sum() > 100
    assert (training.weights[mask] != alive_before).float().mean() > 0.4  # and the others do move
    result = training.result()
    assert not result.end.weights[~mask].any() and not result.early_stop.weights[~mask].any()


@pytest.mark.parametrize("make", [perceptron, convolutional], ids=["perceptron", "convolutional"])
def test_a_seed_with_a_poisoned_batch_changes_no_other(make) -> None:  # type: ignore[no-untyped-def]
    data = images()
    network, plan = make(data), recipe()
    clean = training_of(network, data, (0, 1, 2), plan, 0.5).advance().result()
    poisoned = training_of(network, data, (0, 1, 2), plan, 0.5)
    batches = poisoned.batches

    def poison(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        found, labels = batches(step)
        if step == 9:
            found[1, 3] = torch.nan
        return found, labels

    poisoned.batches = poison  # type: ignore[assignment]
    result = poisoned.advance().result()
    assert result.diverged.tolist() == [False, True, False]
    assert clean.diverged.tolist() == [False, False, False]
    for seed in (0, 2):
        assert_same_bits(of_seed(result, seed), of_seed(clean, seed), f"seed {seed} beside a poisoned one")
    # What the poisoned seed did before is kept: its early stop is a step before the poison.
    assert int(result.early_stop_step[1]) <= 9 and bool(torch.isfinite(result.early_stop.weights[1]).all())


def test_a_learning_rate_that_explodes_is_recorded_as_divergence() -> None:
    data = images()
    result = training_of(perceptron(data), data, (0,), recipe(SGD(learning_rate=1e20, momentum=0.0))).advance().result()
    assert result.diverged.tolist() == [True]


def test_batch_norm_buffers_belong_to_their_seed() -> None:
    data = images()
    network = convolutional(data)
    result = training_of(network, data, (0, 1), recipe(steps=6)).advance().result()
    mean = result.end.buffers["1.running_mean"]
    assert mean.shape == (2, 6)
    assert not torch.equal(mean[0], mean[1])
    assert result.end.buffers["1.num_batches_tracked"].tolist() == [6, 6]
