"""SynFlow: what it conserves, and the collapse of layers that it avoids (Tanaka et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from lth.engine import Network, describe, initial_buffers, initialise
from lth.engine.evidence import gather
from lth.errors import LthError
from lth.models import build_model, prunable_tensors
from lth.pruning import CRITERIA, Scored, prune

SYNFLOW = CRITERIA["synflow"]
Masks = dict[str, torch.Tensor]


def at_initialisation(network: Network, seeds: tuple[int, ...], shape: tuple[int, int, int]) -> Scored:
    rows = initialise(network, seeds)
    return Scored(network, seeds, rows, initial_buffers(network, seeds), rows, {}, None, shape)


def dense(network: Network, seeds: tuple[int, ...]) -> Masks:
    return {tensor.name: torch.ones(len(seeds), *tensor.shape, dtype=torch.bool) for tensor in network.prunable}


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(108, 30, bias=False),
        nn.ReLU(),
        nn.Linear(30, 20, bias=False),
        nn.ReLU(),
        nn.Linear(20, 5, bias=False),
    )


def convolutional() -> nn.Module:
    """Pools and a norm are homogeneous too; at initialisation the norm shifts nothing."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, bias=False),
        nn.ReLU(),
        nn.AvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5, bias=False),
    )


@pytest.mark.parametrize("build", [perceptron, convolutional])
@pytest.mark.parametrize("density", [1.0, 0.3, 0.05])
def test_every_layers_scores_have_the_same_sum(build: Callable[[], nn.Module], density: float) -> None:
    """In a network without biases, before pruning and after: no layer is empty while another is full."""
    shape, seeds = (3, 6, 6), (0, 4)
    network = describe(build, shape, 5, prunable_tensors(build(), shape, 5), "kaiming_normal")
    cohort, masks = at_initialisation(network, seeds, shape), dense(network, seeds)
    if density < 1:
        masks = prune(
            cohort, SYNFLOW, masks, {"": round(density * sum(mask[0].numel() for mask in masks.values()))}, rounds=20
        )
    found = gather(
        frozenset(SYNFLOW.needs),
        network,
        seeds,
        cohort.weights,
        cohort.buffers,
        network.masks(masks),
        input_shape=shape,
    )

    sums = torch.stack(
        [SYNFLOW.score(**{need: found[need][name] for need in SYNFLOW.needs}).flatten(1).sum(1) for name in masks]
    )
    assert sums.dtype == torch.float64 and bool((sums > 0).all())
    torch.testing.assert_close(sums, sums[:1].expand_as(sums), rtol=1e-10, atol=0)
    assert not torch.equal(sums[:, 0], sums[:, 1])  # each seed by itself


def test_the_published_rounds_are_a_hundred() -> None:
    assert SYNFLOW.rounds == 100 and not SYNFLOW.needs_data


def test_with_biases_the_sums_differ() -> None:
    """The law needs a network without biases: a bias is a source of flow that earlier layers do not carry."""
    build = partial(build_model, "mlp", (1, 6, 6), 5, {"hidden": [10]})
    network = describe(build, (1, 6, 6), 5, prunable_tensors(build(), (1, 6, 6), 5), "kaiming_normal")
    rows = initialise(network, (0,))
    network.layout.views(rows)["1.bias"].fill_(-0.5)  # a negative one flows as well
    found = gather(
        {"weights", "flow"}, network, (0,), rows, {}, torch.ones_like(rows, dtype=torch.bool), input_shape=(1, 6, 6)
    )
    first, last = (
        float((found["weights"][name].abs() * found["flow"][name]).sum()) for name in ("1.weight", "3.weight")
    )
    expected = 0.5 * float(network.layout.views(rows)["3.weight"].double().abs().sum())
    assert last - first == pytest.approx(expected, rel=1e-9)


# Width 1 is the published network, 14.7 million weights: three minutes on one core.
@pytest.mark.parametrize("width", [0.25, pytest.param(1.0, marks=[pytest.mark.gates, pytest.mark.timeout(1200)])])
def test_synflow_empties_no_layer_of_vgg16_at_a_thousandth_where_magnitude_does(width: float) -> None:
    """Density 0.001 at initialisation, all layers competing: SynFlow's 100 rounds against one cut by magnitude."""
    shape = (3, 32, 32)
    build = partial(build_model, "vgg16", shape, 10, {"width": width})
    network = describe(build, shape, 10, prunable_tensors(build(), shape, 10), "kaiming_normal")
    cohort, full = at_initialisation(network, (0,), shape), dense(network, (0,))
    keep = round(0.001 * sum(mask.numel() for mask in full.values()))

    masks = prune(cohort, SYNFLOW, full, {"": keep}, rounds=SYNFLOW.rounds)
    left = {name: int(mask.sum()) for name, mask in masks.items()}
    assert sum(left.values()) == keep
    assert min(left.values()) > 0.5 * keep / len(left)  # every layer carries the same flow: about the same counts
    # A path is left from the input to every logit that still has a weight: the network still computes something.
    flowing = gather(
        {"flow", "weights"}, network, (0,), cohort.weights, cohort.buffers, network.masks(masks), input_shape=shape
    )
    assert all(float((flowing["flow"][name] * flowing["weights"][name].abs()).sum()) > 0 for name in masks)

    with pytest.raises(LthError, match=rf"^global pruning to {keep} weights would leave layer '\d+\.weight' empty"):
        prune(cohort, CRITERIA["magnitude"], full, {"": keep})
    cut = prune(cohort, CRITERIA["magnitude"], full, {"": keep}, allow_empty=True)
    emptied = [name for name, mask in cut.items() if not bool(mask.any())]
    assert sum(int(mask.sum()) for mask in cut.values()) == keep
    assert emptied and set(emptied) < {"24.weight", "27.weight", "30.weight", "34.weight", "37.weight", "40.weight"}
