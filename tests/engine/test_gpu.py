"""The promises on a CUDA device. Skipped where there is none."""

from __future__ import annotations

import pytest
import torch
from small_networks import convolutional, exact_masks, images, perceptron, recipe
from test_cohort_promises import assert_same_bits, of_seed

from lth.engine import CohortTraining, Start, exact_arithmetic, initial_buffers, initialise, make_feed
from lth.engine.optimizers import SGD

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
MAKERS = pytest.mark.parametrize("make", [perceptron, convolutional], ids=["perceptron", "convolutional"])


def on_gpu(network, data, seeds, plan, crop_padding=0):  # type: ignore[no-untyped-def]
    weights = initialise(network, seeds)
    start = Start(weights, initial_buffers(network, seeds), exact_masks(network, seeds, 0.5))
    return CohortTraining(
        network,
        plan,
        make_feed(data, seeds, 100, data.transform("channel", crop_padding, crop_padding > 0), "cuda"),
        start,
    )


@MAKERS
def test_the_same_cohort_has_the_same_bits_twice_and_after_a_restart(make) -> None:  # type: ignore[no-untyped-def]
    data = images()
    network, plan = make(data), recipe()
    one, two = (on_gpu(network, data, (0, 1, 2), plan).advance().result() for _ in range(2))
    saved = on_gpu(network, data, (0, 1, 2), plan).advance(13).checkpoint()
    three = on_gpu(network, data, (0, 1, 2), plan).restore(saved).advance().result()
    for seed in range(3):
        assert_same_bits(of_seed(one, seed), of_seed(two, seed), "again")
        assert_same_bits(of_seed(one, seed), of_seed(three, seed), "restarted")


@MAKERS
def test_a_gpu_and_a_cpu_compute_the_same_training(make) -> None:  # type: ignore[no-untyped-def]
    data = images()
    network, plan = make(data), recipe(SGD(learning_rate=0.05, momentum=0.9), steps=8)
    with exact_arithmetic(1, "float32"):
        gpu = on_gpu(network, data, (0, 1), plan).advance().result()
    weights = initialise(network, (0, 1))
    start = Start(weights, initial_buffers(network, (0, 1)), exact_masks(network, (0, 1), 0.5))
    cpu = (
        CohortTraining(network, plan, make_feed(data, (0, 1), 100, data.transform("channel")), start).advance().result()
    )
    torch.testing.assert_close(gpu.curves.validation_loss, cpu.curves.validation_loss, rtol=2e-3, atol=1e-3)


@MAKERS
def test_no_step_waits_for_the_host(make) -> None:  # type: ignore[no-untyped-def]
    data = images()
    plan = recipe(steps=40, evaluate_every=10)
    training = on_gpu(make(data), data, (0, 1, 2), plan, crop_padding=1).advance(3)
    assert training.feed.targets.is_cuda and training.weights.is_cuda
    torch.cuda.set_sync_debug_mode("error")
    try:
        training.advance(39)  # evaluations and a new epoch's order included
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_lower_precisions_train(precision: str) -> None:
    data = images()
    with exact_arithmetic(1, precision):  # type: ignore[arg-type]
        result = on_gpu(perceptron(data, (64,)), data, (0, 1), recipe(precision=precision)).advance().result()
    losses = result.curves.validation_loss
    assert bool(torch.isfinite(losses).all()) and bool((losses[:, -1] < losses[:, 0]).all())
