"""Optimizers against torch's own classes, and gradients that are clipped, for every seed of a cohort by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_networks import images, perceptron, recipe, training_of

from lth.engine.named_tensors import named_tensors
from lth.engine.optimizers import OPTIMIZERS, SGD, Adam, AdamW, Optimizer, RMSprop
from lth.engine.training import clip

PAIRS: list[tuple[Optimizer, Any, dict[str, float | bool]]] = [
    (Adam(learning_rate=0.01, weight_decay=0.02), torch.optim.Adam, {"weight_decay": 0.02}),
    (AdamW(learning_rate=0.01, weight_decay=0.1), torch.optim.AdamW, {"weight_decay": 0.1}),
    (SGD(learning_rate=0.01), torch.optim.SGD, {"momentum": 0.9}),
    (SGD(learning_rate=0.01, nesterov=True), torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (RMSprop(learning_rate=0.01), torch.optim.RMSprop, {}),
    (RMSprop(learning_rate=0.01, momentum=0.5, weight_decay=0.1), torch.optim.RMSprop,
     {"momentum": 0.5, "weight_decay": 0.1}),
]  # fmt: skip


@pytest.mark.parametrize(("optimizer", "theirs", "options"), PAIRS)
def test_ten_steps_are_those_of_torch(optimizer: Optimizer, theirs: Any, options: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 48, generator=generator)
    parameter = torch.nn.Parameter(weights.clone())
    other = theirs([parameter], lr=0.01, **options)
    moments = optimizer.moments(weights)
    for _ in range(10):
        gradient = torch.randn(2, 48, generator=generator)
        optimizer.step(weights, gradient.clone(), moments, 0.01)
        parameter.grad = gradient
        other.step()
    torch.testing.assert_close(weights, parameter.detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("density", [0.5, 0.1], ids=["all weights", "survivors"])
def test_pruned_weights_stay_at_zero_and_seeds_are_the_same_in_any_cohort(kind: str, density: float) -> None:
    data = images()
    network = perceptron(data)
    plan = recipe(OPTIMIZERS[kind](learning_rate=0.01, weight_decay=0.01), steps=12, clip_norm=0.5)
    cohort = training_of(network, data, (0, 1, 2), plan, density).advance()
    assert not cohort.weights[~cohort.state.mask].any()
    for row, seed in enumerate((0, 1, 2)):
        alone = named_tensors(training_of(network, data, (seed,), plan, density).advance().result())
        for name, tensor in named_tensors(cohort.result()).items():
            if name != "curves/steps":
                torch.testing.assert_close(tensor[row], alone[name][0], rtol=0, atol=0, equal_nan=True, msg=name)


def test_a_clipped_gradient_is_that_of_torch_for_each_seed_and_pruned_weights_have_none() -> None:
    generator = torch.Generator().manual_seed(1)
    gradient = torch.randn(3, 32, generator=generator) * torch.tensor([[0.01], [1.0], [30.0]])
    mask = torch.rand(3, 32, generator=generator) > 0.4
    expected = []
    for row, kept in zip(gradient, mask, strict=True):
        parameter = torch.nn.Parameter(torch.zeros(32))
        parameter.grad = row * kept
        torch.nn.utils.clip_grad_norm_([parameter], 2.0)
        expected.append(parameter.grad)
    clipped = gradient.clone()
    clip(clipped, mask, 2.0)
    torch.testing.assert_close(clipped, torch.stack(expected))
    assert torch.equal(clipped[0], gradient[0] * mask[0]) and float(clipped[2].norm()) == pytest.approx(2.0, rel=1e-5)
