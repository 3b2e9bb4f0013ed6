"""Residual networks for small images, 6n + 2 layers deep (He et al. 2016, section 4.2)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from lth.errors import InvalidExperiment
from lth.models.registry import register_model


class Padding(nn.Module):
    """He's option A: every second pixel, and zeros for the channels that are new; no weights."""

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.new_channels = new_channels

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[batch, C, H, W] -> [batch, C + new_channels, ceil(H/2), ceil(W/2)]."""
        return functional.pad(images[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.new_channels))


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm, added to what came in; halves the images where it widens them."""

    def __init__(self, fan_in: int, fan_out: int, shortcut: str) -> None:
        super().__init__()
        stride = 1 if fan_in == fan_out else 2
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(fan_out)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(fan_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride == 2 and shortcut == "projection":
            self.shortcut = nn.Sequential(nn.Conv2d(fan_in, fan_out, 1, stride, bias=False), nn.BatchNorm2d(fan_out))
        elif stride == 2:
            self.shortcut = Padding(fan_out - fan_in)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[batch, fan_in, H, W] -> [batch, fan_out, H/stride, W/stride], rounded up."""
        residual = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(images)))))
        return functional.relu(residual + self.shortcut(images))


@register_model(
    "resnet",
    "CIFAR ResNet of any depth 6n + 2 and width (channels of its first stage), e.g. depth: 110",
    only_images=True,
)
def resnet(
    input_shape: tuple[int, int, int], classes: int, depth: int, width: int = 16, shortcut: str = "projection"
) -> nn.Sequential:
    """conv, three stages of `width`, 2 and 4 times `width` channels, global average pool, dense output.

    `shortcut` tells how a block that halves the images adds them to its output: `projection` by a strided 1x1
    convolution with batch norm (He's option B; the network of Frankle & Carbin 2019), `padding` without weights
    (option A). Convolutions have no bias: batch norm follows each.
    """
    if type(depth) is not int or depth < 8 or depth % 6 != 2:
        raise InvalidExperiment(
            f"model.arguments.depth is {depth!r}; a CIFAR ResNet has 6n + 2 layers: "
            "give 8, 14, 20, 32, 44, 56 or 110, say"
        )
    if type(width) is not int or width < 1:
        raise InvalidExperiment(f"model.arguments.width is {width!r}; give the channels of the first stage, e.g. 16")
    if shortcut not in ("projection", "padding"):
        raise InvalidExperiment(f"model.arguments.shortcut is {shortcut!r}; choose projection or padding")
    blocks: list[nn.Module] = []
    channels = width
    for stage in (width, 2 * width, 4 * width):
        for _ in range(depth // 6):
            blocks.append(Block(channels, stage, shortcut))
            channels = stage
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False),
            norm=nn.BatchNorm2d(width),
            relu=nn.ReLU(),
            blocks=nn.Sequential(*blocks),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            output=nn.Linear(channels, classes),
        )
    )


@register_model(
    "resnet20",
    "ResNet-20 for CIFAR (270,896 weights); width: 32 is twice as wide, shortcut: padding or projection",
    only_images=True,
)
def resnet20(
    input_shape: tuple[int, int, int], classes: int, width: int = 16, shortcut: str = "projection"
) -> nn.Module:
    """20 layers: the "Resnet-18" of Frankle & Carbin (2019)."""
    return resnet(input_shape, classes, 20, width, shortcut)


@register_model("resnet32", "ResNet-32 for CIFAR (464,432 weights); width: 32 is twice as wide", only_images=True)
def resnet32(
    input_shape: tuple[int, int, int], classes: int, width: int = 16, shortcut: str = "projection"
) -> nn.Module:
    """32 layers; with `width` 32 the ResNet-32x2 of the literature on factorised layers."""
    return resnet(input_shape, classes, 32, width, shortcut)


@register_model("resnet56", "ResNet-56 for CIFAR (851,504 weights); width: 32 is twice as wide", only_images=True)
def resnet56(
    input_shape: tuple[int, int, int], classes: int, width: int = 16, shortcut: str = "projection"
) -> nn.Module:
    """56 layers."""
    return resnet(input_shape, classes, 56, width, shortcut)
