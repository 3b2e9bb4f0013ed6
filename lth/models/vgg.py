"""VGG networks for small images, with batch norm (Simonyan & Zisserman 2015, in their CIFAR form)."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import nn

from lth.errors import InvalidExperiment
from lth.models.registry import register_model

BLOCKS = {
    "vgg11": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "vgg16": ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3),
    "vgg19": ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
}
"""Channels of the convolutions of each block; a pool lies between blocks."""


def _vgg(name: str, input_shape: tuple[int, int, int], classes: int, width: float) -> nn.Sequential:
    """Blocks of 3x3 convolutions without bias, each with batch norm and ReLU; global average pool; dense output."""
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width < math.inf:
        raise InvalidExperiment(
            f"model.arguments.width is {width!r}; give the factor on the number of channels, e.g. 0.5"
        )
    blocks = [[max(round(width * channels), 1) for channels in block] for block in BLOCKS[name]]
    smallest = 2 ** (len(blocks) - 1)
    if min(input_shape[1:]) < smallest:
        raise InvalidExperiment(
            f"images of {input_shape[1]}x{input_shape[2]} are too small for model {name!r}; "
            f"its pools need {smallest}x{smallest} pixels or more"
        )
    layers: list[nn.Module] = []
    channels = [input_shape[0]]
    for block in blocks:
        if layers:
            layers.append(nn.MaxPool2d(2))
        channels = [channels[-1], *block]
        for fan_in, fan_out in pairwise(channels):
            layers += [nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False), nn.BatchNorm2d(fan_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], classes))


@register_model(
    "vgg11",
    "VGG-11 for CIFAR, batch norm, one dense layer (9.2M weights); width: factor on its channels",
    only_images=True,
)
def vgg11(input_shape: tuple[int, int, int], classes: int, width: float = 1.0) -> nn.Sequential:
    """64, 128, 2x256, 2x512, 2x512 channels, pools between; every number of channels times `width`."""
    return _vgg("vgg11", input_shape, classes, width)


@register_model(
    "vgg16",
    "VGG-16 for CIFAR, batch norm, one dense layer (14.7M weights); width: factor on its channels",
    only_images=True,
)
def vgg16(input_shape: tuple[int, int, int], classes: int, width: float = 1.0) -> nn.Sequential:
    """2x64, 2x128, 3x256, 3x512, 3x512 channels, pools between; every number of channels times `width`."""
    return _vgg("vgg16", input_shape, classes, width)


@register_model(
    "vgg19",
    "VGG-19 for CIFAR, batch norm, one dense layer (20.0M weights); width: factor on its channels",
    only_images=True,
)
def vgg19(input_shape: tuple[int, int, int], classes: int, width: float = 1.0) -> nn.Sequential:
    """2x64, 2x128, 4x256, 4x512, 4x512 channels, pools between; every number of channels times `width`."""
    return _vgg("vgg19", input_shape, classes, width)
