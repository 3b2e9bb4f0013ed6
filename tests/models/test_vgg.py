"""VGG networks in their CIFAR form: sizes, shapes, widths, images that are too small."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from lth.engine import describe
from lth.errors import InvalidExperiment
from lth.models import build_model, prunable_tensors

CIFAR = (3, 32, 32)
CHANNELS = {
    "vgg11": [64, 128, 256, 256, 512, 512, 512, 512],
    "vgg16": [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512],
    "vgg19": [64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512, 512, 512],
}
SIDES = {  # of the images that each convolution answers with
    "vgg11": [32, 16, 8, 8, 4, 4, 2, 2],
    "vgg16": [32, 32, 16, 16, 8, 8, 8, 4, 4, 4, 2, 2, 2],
    "vgg19": [32, 32, 16, 16, 8, 8, 8, 8, 4, 4, 4, 4, 2, 2, 2, 2],
}


@pytest.mark.parametrize(
    ("name", "conv"), [("vgg11", 9_217_728), ("vgg16", 14_710_464), ("vgg19", 20_018_880)]
)  # published: 14.7M, 20.0M
def test_weights_and_shapes(name: str, conv: int) -> None:
    with torch.device("meta"):  # shapes only
        tensors = prunable_tensors(build_model(name, CIFAR, 10), CIFAR, 10)

    inputs = [3, *CHANNELS[name]]
    assert [tensor.shape for tensor in tensors] == [
        *((after, before, 3, 3) for before, after in zip(inputs, CHANNELS[name], strict=False)),
        (10, 512),
    ]
    assert sum(tensor.size for tensor in tensors) == conv + 5120
    assert [tensor.positions for tensor in tensors] == [*(side * side for side in SIDES[name]), 1]
    assert [tensor.kind for tensor in tensors] == ["conv"] * len(CHANNELS[name]) + ["dense"]


def test_every_convolution_has_a_norm_and_no_bias() -> None:
    module = build_model("vgg11", CIFAR, 10, {"width": 0.05})
    layers = list(module)  # type: ignore[call-overload]

    for layer, norm, activation in zip(layers, layers[1:], layers[2:], strict=False):
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is None
            assert isinstance(norm, nn.BatchNorm2d) and norm.num_features == layer.out_channels
            assert isinstance(activation, nn.ReLU)
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in layers) == 4


@pytest.mark.parametrize(
    ("width", "channels"),
    [
        (0.5, [32, 64, 128, 128, 256, 256, 256, 256]),
        (2, [128, 256]),
        (0.02, [1, 3, 5, 5, 10, 10, 10, 10]),
        (0.001, [1] * 8),
    ],
)
def test_width_multiplies_every_number_of_channels(width: float, channels: list[int]) -> None:
    with torch.device("meta"):
        tensors = prunable_tensors(build_model("vgg11", CIFAR, 10, {"width": width}), CIFAR, 10)

    assert [tensor.shape[0] for tensor in tensors][: len(channels)] == channels


@pytest.mark.parametrize("name", ["vgg11", "vgg16", "vgg19"])
def test_logits_and_stacking(name: str) -> None:
    build = partial(build_model, name, (1, 16, 17), 7, {"width": 0.05})
    network = describe(build, (1, 16, 17), 7, prunable_tensors(build(), (1, 16, 17), 7), "kaiming_normal")

    assert build()(torch.rand(3, 1, 16, 17)).shape == (3, 7)
    assert network.stackable and not network.draws_randomness


@pytest.mark.parametrize("name", ["vgg11", "vgg16", "vgg19"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 15, 32), (3, 32, 15)])
def test_images_too_small_are_refused(name: str, shape: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidExperiment) as caught:
        build_model(name, shape, 10, {"width": 0.05})

    assert str(caught.value) == (
        f"images of {shape[1]}x{shape[2]} are too small for model {name!r}; its pools need 16x16 pixels or more"
    )


@pytest.mark.parametrize("width", [0, -1, 0.0, float("nan"), float("inf"), "1", True, None, [1]])
def test_widths_that_are_none_are_refused(width: Any) -> None:
    with pytest.raises(InvalidExperiment) as caught:
        build_model("vgg11", CIFAR, 10, {"width": width})

    assert str(caught.value) == (
        f"model.arguments.width is {width!r}; give the factor on the number of channels, e.g. 0.5"
    )
