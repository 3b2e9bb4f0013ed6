"""Dead units go and the function stays: on networks with units that nothing reads, that are constant, and both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lth.models import build_model
from lth.tickets.compact import without_dead_units
from lth.tickets.portable import Card, PortableTicket


def ticket(
    model: str, shape: tuple[int, int, int], cut: Callable[[dict[str, torch.Tensor]], None], **arguments: Any
) -> PortableTicket:
    """A network with random weights and statistics, of which `cut` prunes weights in place."""
    torch.manual_seed(0)
    module = build_model(model, shape, 10, arguments)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(torch.rand_like(tensor) + (0.1 if "running_var" in name else -0.3))
    masks = {name: torch.ones_like(tensor, dtype=torch.bool) for name, tensor in state.items() if tensor.ndim in (2, 4)}
    cut(masks)
    for name, mask in masks.items():
        state[name] *= mask
    card = Card(
        "made-0123456789",
        "ticket",
        0,
        1,
        0,
        0.5,
        1,
        2,
        "end",
        1,
        0.5,
        0.5,
        10,
        None,
        "digits",
        "",
        model,
        arguments,
        shape,
        10,
        "magnitude",
        "0",
        "cpu",
    )
    channels = shape[0]
    fitted = {"mean": torch.full((channels,), 100.0), "scale": torch.full((channels,), 0.01)}
    return PortableTicket(card, masks, state, state, fitted)


def sizes(module: torch.nn.Module) -> list[int]:
    return [parameter.shape[0] for name, parameter in module.named_parameters() if parameter.ndim in (2, 4)]


def assert_same_function(taken: PortableTicket, small: torch.nn.Module) -> None:
    pixels = torch.randint(0, 256, (8, *taken.card.input_shape)).float()
    with torch.no_grad():
        torch.testing.assert_close(small(pixels), taken.deployed()(pixels), atol=1e-5, rtol=1e-5)


def test_by_hand_in_a_dense_network() -> None:
    def cut(masks: dict[str, torch.Tensor]) -> None:
        first, second, last = masks.values()
        second[:, :3] = False  # nothing reads the first three of twelve
        first[3:5] = False  # two are constant: ReLU of their biases
        second[7] = False  # so is one of eight of the second layer
        last[:, 6] = False  # nothing reads another; it was the only one to read unit 11
        second[:, 11] = False
        second[6, 11] = True

    taken = ticket("mlp", (1, 8, 8), cut, hidden=[12, 8])
    small = without_dead_units(taken)
    assert sizes(small) == [12 - 3 - 2 - 1, 8 - 1 - 1, 10]
    assert_same_function(taken, small)


def test_nothing_goes_from_a_network_without_dead_units() -> None:
    taken = ticket("mlp", (1, 8, 8), lambda masks: None, hidden=[12, 8])
    assert sizes(without_dead_units(taken)) == [12, 8, 10]


def test_a_layer_keeps_one_unit() -> None:
    def cut(masks: dict[str, torch.Tensor]) -> None:
        masks[list(masks)[1]][:] = False

    taken = ticket("mlp", (1, 8, 8), cut, hidden=[12, 8])
    small = without_dead_units(taken)
    assert sizes(small) == [1, 1, 10]
    assert_same_function(taken, small)


@pytest.mark.parametrize(
    ("model", "shape", "arguments"),
    [
        ("lenet5", (1, 28, 28), {}),
        ("conv2", (3, 32, 32), {}),
        ("vgg11", (3, 32, 32), {"width": 0.125}),
        ("resnet", (3, 32, 32), {"depth": 8, "width": 4}),
    ],
)
@pytest.mark.parametrize("density", [0.3, 0.03])
def test_in_convolutional_networks(
    model: str, shape: tuple[int, int, int], arguments: dict[str, Any], density: float
) -> None:
    def cut(masks: dict[str, torch.Tensor]) -> None:
        for mask in masks.values():
            mask &= torch.rand(mask.shape) < density

    taken = ticket(model, shape, cut, **arguments)
    small = without_dead_units(taken)
    before, after = (sum(sizes(network)) for network in (taken.module("trained", pruned=False), small))
    assert after < before if density == 0.03 else after <= before
    assert_same_function(taken, small)
