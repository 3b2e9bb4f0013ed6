"""Small convolutional networks: LeNet-5 and the Conv-2/4/6 family of Frankle & Carbin (2019)."""

from __future__ import annotations

import torch
from torch import nn

from lth.errors import InvalidExperiment
from lth.models.registry import register_model


@register_model(
    "lenet5", "LeNet-5 (Caffe): 20 and 50 filters of 5x5, 500 dense units (430,500 weights on MNIST)", only_images=True
)
def lenet5(input_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """conv 20@5x5, pool, conv 50@5x5, pool, dense 500, logits (the "LeNet-5-Caffe" of the pruning literature)."""
    features = nn.Sequential(
        nn.Conv2d(input_shape[0], 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)
    )
    return _with_dense_layers("lenet5", features, input_shape, classes, (500,))


def _conv(name: str, blocks: tuple[int, ...], input_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = input_shape[0]
    for width in blocks:
        layers += [
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        channels = width
    return _with_dense_layers(name, nn.Sequential(*layers), input_shape, classes, (256, 256))


def _with_dense_layers(
    name: str, features: nn.Sequential, input_shape: tuple[int, int, int], classes: int, hidden: tuple[int, ...]
) -> nn.Sequential:
    try:
        with torch.no_grad():
            flat = features(torch.zeros(1, *input_shape)).numel()
    except RuntimeError:
        flat = 0
    if flat == 0:
        raise InvalidExperiment(f"images of {input_shape[1]}x{input_shape[2]} are too small for model {name!r}")
    layers: list[nn.Module] = [*features, nn.Flatten()]
    for width in hidden:
        layers += [nn.Linear(flat, width), nn.ReLU()]
        flat = width
    return nn.Sequential(*layers, nn.Linear(flat, classes))


@register_model(
    "conv2",
    "Conv-2: two 3x3 convolutions of 64 filters, then 256-256 dense (4.3M weights on CIFAR-10)",
    only_images=True,
)
def conv2(input_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """64, 64, pool; 256, 256 dense."""
    return _conv("conv2", (64,), input_shape, classes)


@register_model(
    "conv4", "Conv-4: convolutions of 64, 64, 128, 128 filters, then 256-256 dense (2.4M weights)", only_images=True
)
def conv4(input_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """64, 64, pool, 128, 128, pool; 256, 256 dense."""
    return _conv("conv4", (64, 128), input_shape, classes)


@register_model(
    "conv6",
    "Conv-6: convolutions of 64, 64, 128, 128, 256, 256 filters, 256-256 dense (2.3M weights)",
    only_images=True,
)
def conv6(input_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """64, 64, pool, 128, 128, pool, 256, 256, pool; 256, 256 dense."""
    return _conv("conv6", (64, 128, 256), input_shape, classes)
