"""Early stopping, curves, rewind points, schedules, batches, evaluation."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_networks import convolutional, images, perceptron, recipe, training_of
from torch.nn import functional

from lth.engine import Batches, Recipe, evaluate, learning_rate, make_feed
from lth.engine.environment import choose_device, exact_arithmetic
from lth.engine.layout import Layout
from lth.engine.optimizers import SGD, Adam
from lth.engine.schedules import SCHEDULES, Constant, Cosine, CosineRestarts, Linear, Schedule, StepDecay
from lth.engine.watchers import RewindPoint
from lth.errors import InvalidExperiment
from lth.objectives import Classification


def test_early_stop_is_the_first_minimum_of_the_validation_loss() -> None:
    data = images(examples=160)
    training = training_of(perceptron(data, (64,)), data, (0, 1, 2), recipe(Adam(learning_rate=0.03), steps=200))
    seen = {0: training.weights.clone()}
    for step in range(1, 201):
        training.advance(step)
        seen[step] = training.weights.clone()
    result = training.result()
    losses = result.curves.validation_loss
    for seed in range(3):
        best = int(losses[seed].argmin())
        expected = int(result.curves.steps[best])
        assert int(result.early_stop_step[seed]) == expected
        assert torch.equal(result.early_stop.weights[seed], seen[expected][seed])
    assert len({int(step) for step in result.early_stop_step} - {200}) > 0  # it overfits, so it does stop early


def test_evaluations_come_at_the_interval_at_the_start_and_at_the_end() -> None:
    data = images()
    result = training_of(perceptron(data), data, (0,), recipe(steps=26, evaluate_every=6)).advance().result()
    assert result.curves.steps.tolist() == [0, 6, 12, 18, 24, 26]
    assert math.isnan(float(result.curves.train_loss[0, 0]))
    assert bool(torch.isfinite(result.curves.train_loss[0, 1:]).all())


def test_training_figures_are_means_over_the_batches_since_the_last_evaluation() -> None:
    data = images()
    plan = recipe(steps=4, evaluate_every=2)
    training = training_of(perceptron(data), data, (0,), plan)
    expected = []
    for step in range(4):
        pixels, labels = training.batches(step)
        logits = training.program.outputs(training.weights, {}, pixels.clone())[0]
        expected.append(
            (float(functional.cross_entropy(logits, labels[0])), float((logits.argmax(1) == labels[0]).float().mean()))
        )
        training.advance(step + 1)
    curves = training.result().curves
    assert curves.train_loss[0, 1:].tolist() == pytest.approx(
        [(expected[0][0] + expected[1][0]) / 2, (expected[2][0] + expected[3][0]) / 2], rel=1e-5
    )
    assert curves.train_score[0, 1:].tolist() == pytest.approx(
        [(expected[0][1] + expected[1][1]) / 2, (expected[2][1] + expected[3][1]) / 2], rel=1e-5
    )


@pytest.mark.parametrize("step", [0, 3, 7])
def test_the_rewind_point_is_the_weights_and_buffers_of_its_step(step: int) -> None:
    data = images()
    network = convolutional(data)
    result = training_of(network, data, (0, 1), recipe(steps=10, watchers=(RewindPoint(step=step),))).advance().result()
    stopped = training_of(network, data, (0, 1), recipe(steps=10)).advance(step)
    assert result.rewind_point is not None
    assert torch.equal(result.rewind_point.weights, stopped.weights)
    for name, buffer in stopped.buffers.items():
        assert torch.equal(result.rewind_point.buffers[name], buffer)


def test_evaluate_agrees_with_a_direct_computation_on_every_split() -> None:
    data = images(examples=700)
    network = perceptron(data)
    training = training_of(network, data, (4, 9), recipe(steps=5)).advance()
    feed = training.feed
    for split, inputs, labels, indices in (
        ("train", data.train_inputs, data.train_labels, feed.train),
        ("validation", data.train_inputs, data.train_labels, feed.validation),
        ("test", data.test_inputs, data.test_labels, torch.arange(60).expand(2, -1)),
    ):
        loss, accuracy = evaluate(training.program, Classification(), training.weights, {}, feed, split)
        for row in range(2):
            train = data.train_inputs[feed.train[row]].double()
            pixels = (inputs[indices[row]].double() - train.mean()) / train.std(correction=0)
            flat = training.weights[row].double()
            parameters = {
                slot.name: flat[slot.offset : slot.offset + slot.size].view(slot.shape) for slot in network.layout.slots
            }
            logits = torch.func.functional_call(network.module, parameters, (pixels,))
            target = labels[indices[row]]
            assert float(loss[row]) == pytest.approx(float(functional.cross_entropy(logits, target)), rel=1e-5)
            assert float(accuracy[row]) == pytest.approx(float((logits.argmax(1) == target).double().mean()))


def test_the_splits_do_not_touch_and_the_test_set_takes_no_part_in_training() -> None:
    data = images()
    feed = make_feed(data, (0, 1), 100, data.transform("channel"))
    for row in range(2):
        together = torch.cat([feed.train[row], feed.validation[row]]).sort().values
        assert torch.equal(together, torch.arange(400))
    changed = type(data)(
        "other", data.train_inputs, data.train_labels, 255 - data.test_inputs, (data.test_labels + 1) % 10, data.classes
    )
    plan = recipe()
    one = training_of(perceptron(data), data, (0,), plan).advance().result()
    other = training_of(perceptron(data), changed, (0,), plan).advance().result()
    assert torch.equal(one.end.weights, other.end.weights) and torch.equal(one.early_stop_step, other.early_stop_step)


def test_an_epoch_visits_every_example_once_in_an_order_of_its_own() -> None:
    data = images()
    feed = make_feed(data, (0, 1), 100, data.transform("none"))
    batches = Batches(feed, 30)
    assert batches.per_epoch == 10
    epochs = []
    for epoch in range(2):
        rows = [batches(epoch * 10 + step)[0].flatten(2).mul(255).round().clone() for step in range(10)]
        epochs.append(torch.cat(rows, 1))
    pixels = data.train_inputs.flatten(1).float()
    for seed in range(2):
        expected = pixels[feed.train[seed]]
        for epoch in epochs:
            # sort rows by a random projection to compare as sets
            key = torch.randn(pixels.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
            torch.testing.assert_close(
                (epoch[seed].double() @ key).sort().values, (expected.double() @ key).sort().values
            )
    assert not torch.equal(epochs[0][0], epochs[1][0]) and not torch.equal(epochs[0][0], epochs[0][1])


def test_batches_can_begin_at_any_step() -> None:
    data = images()
    feed = make_feed(data, (3,), 100, data.transform("channel", 2, True))
    through, jumped = Batches(feed, 30), Batches(feed, 30)
    for step in range(24):
        images_at, labels_at = (tensor.clone() for tensor in through(step))
    found, labels = jumped(23)
    assert torch.equal(found, images_at) and torch.equal(labels, labels_at)


def test_augmentation_moves_training_images_only() -> None:
    data = images()
    transforms = (data.transform("none"), data.transform("none", 2, True))
    plain, moved = (Batches(make_feed(data, (0,), 100, how), 30)(0)[0].clone() for how in transforms)
    assert plain.shape == moved.shape and not torch.equal(plain, moved)
    same = [bool((plain[0, row] == moved[0, row]).all()) for row in range(30)]
    assert 0 <= sum(same) < 10


def recipe_with(schedule: Schedule, steps: int = 100) -> Recipe:
    return Recipe(Adam(learning_rate=0.8), schedule, 10, steps, 10)


def test_schedules_by_hand() -> None:
    constant = recipe_with(Constant())
    assert [learning_rate(constant, step) for step in (0, 50, 99)] == [0.8, 0.8, 0.8]
    warm = recipe_with(Constant(warmup=4))
    assert [learning_rate(warm, step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    step = recipe_with(StepDecay(warmup=0, milestones=(20, 25), factor=0.1))
    assert [learning_rate(step, at) for at in (19, 20, 24, 25, 99)] == pytest.approx([0.8, 0.08, 0.08, 0.008, 0.008])
    cosine = recipe_with(Cosine())
    assert [learning_rate(cosine, at) for at in (0, 25, 50, 75)] == pytest.approx(
        [0.8, 0.4 * (1 + math.sqrt(0.5)), 0.4, 0.4 * (1 - math.sqrt(0.5))]
    )


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(0, 50), st.integers(0, 99))
def test_a_learning_rate_is_never_above_the_full_rate_nor_below_zero(kind: str, warmup: int, step: int) -> None:
    needed = {"step": {"milestones": (30, 60), "factor": 0.5}, "cosine_restarts": {"period": 20, "factor": 1.5}}
    plan = recipe_with(SCHEDULES[kind](warmup=warmup, **needed.get(kind, {})))
    assert 0 <= learning_rate(plan, step) <= 0.8


def test_restarts_and_the_straight_line_by_hand() -> None:
    # Periods of 20, 40 and the first 40 steps of 80; each begins at the full rate and is at half of it half-way.
    restarts = recipe_with(CosineRestarts(period=20, factor=2.0))
    assert [learning_rate(restarts, at) for at in (0, 10, 20, 40, 60)] == pytest.approx([0.8, 0.4, 0.8, 0.4, 0.8])
    assert learning_rate(restarts, 19) == pytest.approx(0.4 * (1 + math.cos(math.pi * 19 / 20)))
    assert learning_rate(recipe_with(CosineRestarts(warmup=5, period=20)), 35) == pytest.approx(0.4)
    line = recipe_with(Linear(end=0.25))
    assert [learning_rate(line, at) for at in (0, 50, 99)] == pytest.approx([0.8, 0.5, 0.8 * (1 - 0.75 * 0.99)])
    assert learning_rate(recipe_with(Linear(warmup=20)), 60) == pytest.approx(0.4)


def test_a_schedule_is_what_the_optimizer_uses() -> None:
    data = images()
    training = training_of(
        perceptron(data),
        data,
        (0,),
        recipe(
            SGD(learning_rate=0.5, momentum=0.0), schedule=StepDecay(warmup=0, milestones=(3,), factor=0.25), steps=6
        ),
    )
    for step in range(6):
        before = training.weights.clone()
        training.advance(step + 1)
        moved = before - training.weights
        rate = 0.5 if step < 3 else 0.125
        torch.testing.assert_close(moved, rate * training.gradient, rtol=1e-3, atol=1e-6)


def test_the_layout_aligns_every_parameter_to_a_cache_line() -> None:
    layout = Layout.of({"a": (3, 5), "b": (), "c": (16,), "d": (1, 17)})
    assert [slot.offset for slot in layout.slots] == [0, 16, 32, 48]
    assert layout.width == 80  # 48 + 17, and always at least one float of padding
    tensors = {"a": torch.randn(2, 3, 5), "b": torch.randn(2), "c": torch.randn(2, 16), "d": torch.randn(2, 1, 17)}
    rows = layout.rows(tensors)
    for name, view in layout.views(rows).items():
        assert torch.equal(view, tensors[name])
    assert not rows[:, 15].any() and not rows[:, 65:].any()


def test_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(InvalidExperiment, match="'tpu'"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidExperiment, match="no CUDA device"):
            choose_device("cuda")
        with pytest.raises(InvalidExperiment, match="tf32"):
            choose_device("auto", "tf32")


def test_machine_settings_are_put_back() -> None:
    before = torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32
    with exact_arithmetic(before[0] + 1, "tf32"):
        assert torch.get_num_threads() == before[0] + 1 and torch.backends.cuda.matmul.allow_tf32
    assert (torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32) == before


def test_buffers_that_a_constructor_draws_belong_to_their_seed_too() -> None:
    from small_networks import network_of
    from torch import nn

    from lth.engine import initial_buffers

    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("noise", torch.randn(4))
            self.layer = nn.Linear(64, 10)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.layer(pixels.flatten(1)) + self.noise.sum()

    network = network_of(Noisy, images())
    assert network.random_buffers
    three, two = initial_buffers(network, (0, 1, 2))["noise"], initial_buffers(network, (1, 2))["noise"]
    assert torch.equal(three[1:], two) and not torch.equal(three[0], three[1])
    assert not torch.equal(initial_buffers(network, (0,), "reinit")["noise"][0], three[0])
