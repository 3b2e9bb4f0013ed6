"""Small networks and made-up data for the engine's tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn

from lth.data import ImageData
from lth.engine import CohortTraining, Network, Recipe, Start, describe, initial_buffers, initialise, make_feed
from lth.engine.optimizers import Adam, Optimizer
from lth.engine.schedules import Constant
from lth.engine.state import CohortState, begun
from lth.models import build_model, prunable_tensors
from lth.streams import stream


def images(examples: int = 400, shape: tuple[int, int, int] = (1, 8, 8), classes: int = 10) -> ImageData:
    """Noise with labels that depend on it, so that there is something to learn."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randint(0, 256, (examples + 60, *shape), dtype=torch.uint8, generator=generator)
    direction = torch.randn(inputs[0].numel(), classes, generator=generator)
    labels = (inputs.flatten(1).float() @ direction).argmax(1)
    return ImageData("noise", inputs[60:], labels[60:], inputs[:60], labels[:60], classes)


def network_of(build: Callable[[], nn.Module], data: ImageData, initialisation: str = "glorot_normal") -> Network:
    tensors = prunable_tensors(build(), data.input_shape, data.classes)
    return describe(build, data.input_shape, data.classes, tensors, initialisation)


def perceptron(data: ImageData, hidden: tuple[int, ...] = (13, 7)) -> Network:
    return network_of(partial(build_model, "mlp", data.input_shape, data.classes, {"hidden": list(hidden)}), data)


def convolutional(data: ImageData, dropout: float = 0.0) -> Network:
    """A small convolutional network with batch norm."""

    def build() -> nn.Module:
        channels = data.input_shape[0]
        layers: list[nn.Module] = [
            nn.Conv2d(channels, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 5, 3),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.Flatten(),
            nn.LazyLinear(10),
        ]
        if dropout:
            layers.insert(8, nn.Dropout(dropout))
        module = nn.Sequential(*layers)
        with torch.no_grad():
            module.eval()(torch.zeros(1, *data.input_shape))
        return module.train()

    return network_of(build, data)


def recipe(optimizer: Optimizer | None = None, **changes: object) -> Recipe:
    settings: dict[str, object] = {
        "optimizer": optimizer or Adam(learning_rate=0.01),
        "schedule": Constant(),
        "batch_size": 30,
        "steps": 26,
        "evaluate_every": 6,
    }
    return Recipe(**{**settings, **changes})  # type: ignore[arg-type]


def exact_masks(network: Network, seeds: tuple[int, ...], density: float) -> torch.Tensor:
    """A random mask per seed with the same count in every layer, the same whatever the cohort."""
    masks = {}
    for tensor in network.prunable:
        order = torch.stack([torch.randperm(tensor.size, generator=stream(seed, tensor.name)) for seed in seeds])
        masks[tensor.name] = (order < round(density * tensor.size)).view(len(seeds), *tensor.shape)
    return network.masks(masks)


def training_of(
    network: Network,
    data: ImageData,
    seeds: tuple[int, ...],
    plan: Recipe,
    density: float = 1.0,
    stack: bool | None = None,
    crop_padding: int = 0,
) -> CohortTraining:
    start = Start(initialise(network, seeds), initial_buffers(network, seeds), exact_masks(network, seeds, density))
    feed = make_feed(data, seeds, 100, data.transform("channel", crop_padding, crop_padding > 0))
    return CohortTraining(network, plan, feed, start, stack)


def state_of(weights: torch.Tensor, buffers: Mapping[str, torch.Tensor] | None = None) -> CohortState:
    """The state of a dense cohort at step 0."""
    start = Start(weights, buffers or {}, torch.ones_like(weights, dtype=torch.bool))
    return begun(start, 1, weights.device)
