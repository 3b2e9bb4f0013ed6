"""Linear mode connectivity: barriers by hand, exact ends, batch-norm statistics against NumPy, trained copies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import nn

from lth.analysis.connectivity import (
    alphas,
    barrier,
    connectivity_rows,
    interpolate,
    path_errors,
    recompute_batch_norm,
)
from lth.data.digits import load_digits
from lth.data.images import ImageData
from lth.engine import (
    CohortTraining,
    Feed,
    Network,
    Recipe,
    Start,
    choose_program,
    describe,
    evaluate,
    exact_arithmetic,
    initialise,
    make_feed,
)
from lth.engine.optimizers import Adam
from lth.engine.programs import Program
from lth.engine.schedules import Constant
from lth.errors import LthError
from lth.models import build_model, prunable_tensors
from lth.objectives import Classification
from lth.store import Unit
from lth.store.analysis_schemas import CONNECTIVITY
from lth.streams import stream

Cohort = tuple[torch.Tensor, dict[str, torch.Tensor]]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with exact_arithmetic(1, "float32"):
        yield


def network_of(build: Callable[[], nn.Module], data: ImageData) -> Network:
    tensors = prunable_tensors(build(), data.input_shape, data.classes)
    return describe(build, data.input_shape, data.classes, tensors, "glorot_normal")


def with_batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 10)
    )


def program_of(network: Network, feed: Feed) -> Program:
    return choose_program(network, Classification(), feed.seeds, torch.device("cpu"), "float32")


def random_copy(network: Network, seeds: int, name: str) -> Cohort:
    """Weights and running statistics out of the air."""
    weights = torch.randn(seeds, network.layout.width, generator=stream(1, name)) * 0.2
    buffers = {
        key: torch.rand(seeds, *buffer.shape, generator=stream(2, name + key)) + 0.5
        if buffer.is_floating_point()
        else torch.full((seeds, *buffer.shape), 7, dtype=buffer.dtype)
        for key, buffer in network.buffers.items()
    }
    return weights, buffers


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_digits(None)  # type: ignore[arg-type]


Setting = tuple[Network, Feed, Cohort, Cohort]


@pytest.fixture(scope="module")
def convolutional(digits: ImageData) -> Setting:
    """Two random copies of two seeds of a small network with batch norm and dropout."""
    network = network_of(with_batch_norm, digits)
    feed = make_feed(digits, (0, 1), 1137, digits.transform("channel"))  # 300 images train
    return network, feed, random_copy(network, 2, "a"), random_copy(network, 2, "b")


def test_the_alphas_of_the_paper() -> None:
    assert len(alphas()) == 30
    assert alphas(5).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    torch.testing.assert_close(1 - alphas(30).flip(0), alphas(30), rtol=0, atol=1e-15)
    with pytest.raises(LthError, match="a path of 1 points"):
        alphas(1)


def test_barriers_by_hand() -> None:
    height, alpha = barrier(torch.tensor([0.10, 0.20, 0.50, 0.40, 0.30], dtype=torch.float64))
    assert float(height) == pytest.approx(0.50 - 0.20) and float(alpha) == 0.5
    # seeds side by side: flat; falling (half the difference of the ends); a valley; the first of two equal peaks
    errors = torch.tensor(
        [[0.1, 0.4, 0.2, 0.0], [0.1, 0.3, 0.1, 1.0], [0.1, 0.3, 0.1, 1.0], [0.1, 0.2, 0.2, 0.0]], dtype=torch.float64
    )
    height, alpha = barrier(errors)
    assert height.tolist() == pytest.approx([0.0, 0.1, 0.0, 1.0], abs=1e-15)
    assert alpha.tolist() == pytest.approx([0.0, 0.0, 0.0, 1 / 3])
    assert math.isnan(float(barrier(torch.tensor([0.1, math.nan, 0.2])).height))


def test_interpolation_is_exact_at_the_ends_and_between_equal_copies(convolutional: Setting) -> None:
    _, _, a, b = convolutional
    for copy, (weights, buffers) in ((a, interpolate(a, b, 1.0)), (b, interpolate(a, b, 0.0))):
        assert torch.equal(weights, copy[0])
        assert all(torch.equal(buffers[name], copy[1][name]) for name in copy[1])
    for alpha in alphas(30).tolist():
        weights, buffers = interpolate(a, a, alpha)
        assert torch.equal(weights, a[0]) and all(torch.equal(buffers[name], a[1][name]) for name in a[1])

    later = {**b[1], "1.num_batches_tracked": torch.tensor([9, 9])}
    weights, buffers = interpolate(a, (b[0], later), 0.25)
    torch.testing.assert_close(weights, 0.25 * a[0] + 0.75 * b[0])
    torch.testing.assert_close(buffers["1.running_var"], 0.25 * a[1]["1.running_var"] + 0.75 * b[1]["1.running_var"])
    assert buffers["1.num_batches_tracked"].tolist() == [7, 7]


@pytest.mark.parametrize("batch_norm", ["recompute", "interpolate"])
def test_a_copy_has_no_barrier_to_itself(convolutional: Setting, batch_norm: str) -> None:
    network, feed, a, _ = convolutional
    errors, losses = path_errors(
        network, program_of(network, feed), Classification(), feed, a, a, points=7, batch_norm=batch_norm
    )  # type: ignore[arg-type]
    assert errors.shape == losses.shape == (7, 2) and errors.dtype == losses.dtype == torch.float64
    assert barrier(errors).height.tolist() == [0.0, 0.0]
    assert barrier(losses).height.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_ends_of_a_path_are_the_copies(convolutional: Setting, split: str) -> None:
    network, feed, a, b = convolutional
    program = program_of(network, feed)
    errors, losses = path_errors(
        network, program, Classification(), feed, a, b, points=3, batch_norm="interpolate", split=split
    )
    again, _ = path_errors(
        network, program, Classification(), feed, a, b, points=3, batch_norm="recompute", split=split
    )
    assert not torch.equal(errors, again)
    for (weights, buffers), row in ((b, 0), (a, 2)):
        loss, accuracy = evaluate(program, Classification(), weights, buffers, feed, split)
        assert torch.equal(errors[row], 1 - accuracy) and torch.equal(losses[row], loss)
        renewed = recompute_batch_norm(network, feed, weights, buffers)
        assert torch.equal(again[row], 1 - evaluate(program, Classification(), weights, renewed, feed, split)[1])


@pytest.mark.parametrize("batch_norm", ["recompute", "interpolate"])
def test_swapping_the_copies_mirrors_the_path(convolutional: Setting, batch_norm: str) -> None:
    network, feed, a, b = convolutional
    program = program_of(network, feed)
    there, losses = path_errors(network, program, Classification(), feed, a, b, points=6, batch_norm=batch_norm)  # type: ignore[arg-type]
    back, mirrored = path_errors(network, program, Classification(), feed, b, a, points=6, batch_norm=batch_norm)  # type: ignore[arg-type]
    torch.testing.assert_close(there, back.flip(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(losses, mirrored.flip(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(barrier(there).height, barrier(back).height, rtol=0, atol=1e-12)


def test_recomputed_statistics_are_those_of_numpy(convolutional: Setting) -> None:
    network, feed, (weights, buffers), _ = convolutional
    renewed = recompute_batch_norm(network, feed, weights, buffers, batches=9, batch_size=80)
    views = network.layout.views(weights)
    for row in range(2):
        kernel = views["0.weight"][row, :, 0].double().numpy()
        bias = views["0.bias"][row].double().numpy()
        means, variances = [], []
        for batch in range(3):  # of 300 // 80; the last 60 images do not fill one
            chosen = feed.train[row, batch * 80 : (batch + 1) * 80]
            mean, scale = (float(feed.fitted[name][row]) for name in ("mean", "scale"))
            images = (feed.examples["pixels"][chosen, 0].double().numpy() - mean) * scale
            windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))
            maps = np.einsum("bhwij,cij->cbhw", windows, kernel).reshape(4, -1) + bias[:, None]
            means.append(maps.mean(1))
            variances.append(maps.var(1, ddof=1))
        assert renewed["1.running_mean"][row].numpy() == pytest.approx(np.mean(means, 0), rel=1e-4, abs=1e-5)
        assert renewed["1.running_var"][row].numpy() == pytest.approx(np.mean(variances, 0), rel=1e-4)
    assert renewed["1.num_batches_tracked"].tolist() == [3, 3]
    fewer = recompute_batch_norm(network, feed, weights, buffers, batches=2, batch_size=80)
    assert fewer["1.num_batches_tracked"].tolist() == [2, 2]
    assert recompute_batch_norm(network, feed, weights, buffers)["1.num_batches_tracked"].tolist() == [1, 1]  # of 300


def test_recomputing_draws_nothing_and_leaves_everything_else_as_it_was(convolutional: Setting) -> None:
    network, feed, (weights, buffers), _ = convolutional
    norm = network.module[1]  # type: ignore[index]
    network.module.train()
    before, state = {name: buffer.clone() for name, buffer in buffers.items()}, torch.get_rng_state()
    one, two = (recompute_batch_norm(network, feed, weights, buffers) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)  # dropout stays off
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(buffers[name], before[name]) for name in before)
    assert norm.momentum == 0.1 and all(layer.training for layer in network.module.modules())
    alone = recompute_batch_norm(network, feed.of_seed(1), weights[1:], {n: b[1:] for n, b in buffers.items()})
    assert all(torch.equal(alone[name][0], one[name][1]) for name in one)  # a seed's statistics are its own


def perceptron_training(network: Network, feed: Feed, steps: int, start: Start, copy: int = 0) -> CohortTraining:
    plan = Recipe(Adam(learning_rate=2e-3), Constant(), batch_size=60, steps=steps, evaluate_every=steps, copy=copy)
    return CohortTraining(network, plan, feed, start).advance()


def test_inits_are_parted_by_a_barrier_and_copies_of_a_late_start_are_not(digits: ImageData) -> None:
    network = network_of(lambda: build_model("mlp", digits.input_shape, 10, {"hidden": [60, 40]}), digits)
    feed = make_feed(digits, (0, 1), 100, digits.transform("channel"))
    everything = torch.ones(2, network.layout.width, dtype=torch.bool)
    trained = perceptron_training(network, feed, 300, Start(initialise(network, (0, 1)), {}, everything)).weights
    alone = feed.of_seed(0)
    program = program_of(network, alone)

    errors, losses = path_errors(
        network, program, Classification(), alone, (trained[:1], {}), (trained[1:], {}), points=11
    )
    assert float(errors[[0, -1]].max()) < 0.06  # both have learnt
    assert float(barrier(errors).height) > 0.2
    assert float(barrier(losses).height) > 0.3
    assert 0.2 < float(barrier(errors).alpha) < 0.8
    same, _ = path_errors(
        network,
        program,
        Classification(),
        alone,
        (trained[:1], {}),
        (trained[1:], {}),
        points=11,
        batch_norm="interpolate",
    )
    assert torch.equal(same, errors)  # no batch norm, nothing to choose

    start = Start(trained[:1], {}, everything[:1])
    one, two = (perceptron_training(network, alone, 100, start, copy).weights for copy in (0, 1))
    assert not torch.equal(one, two)
    late, _ = path_errors(network, program, Classification(), alone, (one, {}), (two, {}), points=11)
    assert float(barrier(late).height) < 0.02  # stable, by the paper's threshold


def test_rows_of_two_seeds_by_hand() -> None:
    errors = torch.tensor([[0.1, 0.0], [0.5, 0.25], [0.3, 0.5]], dtype=torch.float64)
    losses = torch.tensor([[1.0, 1.0], [3.0, math.inf], [2.0, 1.0]], dtype=torch.float64)
    table = connectivity_rows(
        errors,
        losses,
        "toy-0123456789",
        Unit("ticket", 0, 3, (4, 6)),
        step=500,
        copies=(2, 1),
        split="test",
        batch_norm="recompute",
    )
    assert table.schema.equals(CONNECTIVITY, check_metadata=True)
    first, second = table.to_pylist()
    same = {
        "experiment_id": "toy-0123456789",
        "arm": "ticket",
        "draw": 0,
        "level": 3,
        "step": 500,
        "copy_a": 2,
        "copy_b": 1,
        "split": "test",
        "batch_norm": "recompute",
        "points": 3,
    }
    assert {name: first[name] for name in same} == {name: second[name] for name in same} == same
    assert (first["seed"], first["error_a"], first["error_b"], first["alpha"]) == (4, 0.3, 0.1, 0.5)
    assert first["barrier"] == pytest.approx(0.3) and first["loss_barrier"] == 1.5
    assert first["errors"] == [0.1, 0.5, 0.3] and first["losses"] == [1.0, 3.0, 2.0]
    assert (second["seed"], second["barrier"], second["alpha"]) == (6, 0.25, 1.0)
    assert second["losses"] == [1.0, None, 1.0] and second["loss_barrier"] is None


def test_mistakes_are_refused_in_one_line(convolutional: Setting) -> None:
    network, feed, a, b = convolutional
    with pytest.raises(LthError, match="unknown batch_norm 'keep'"):
        path_errors(network, program_of(network, feed), Classification(), feed, a, b, batch_norm="keep")  # type: ignore[arg-type]
    with pytest.raises(LthError, match=r"errors \[3, 2\] .* for the 1 seeds"):
        connectivity_rows(
            torch.zeros(3, 2),
            torch.zeros(3, 2),
            "x",
            Unit("ticket", 0, 3, (4,)),
            step=0,
            copies=(0, 1),
            split="test",
            batch_norm="recompute",
        )
