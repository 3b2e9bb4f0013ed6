"""Small networks and made-up data whose weights are scored, for the tests of criteria."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from lth.data import ImageData
from lth.engine import EVIDENCE, Network, Sample, describe, initial_buffers, initialise, make_feed
from lth.engine.evidence import gather
from lth.models import prunable_tensors
from lth.pruning import Scored
from lth.streams import stream

EVERYTHING = frozenset(EVIDENCE)
Tensors = dict[str, torch.Tensor]
SHAPE = (2, 6, 6)
CLASSES = 4


def convolutional() -> nn.Module:
    """Convolutions with biases, batch norm, a pool, a dense output."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5, CLASSES),
    )


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, CLASSES))


def forgetful() -> nn.Module:
    """Its training pass draws random numbers."""
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 9), nn.ReLU(), nn.Dropout(0.4), nn.Linear(9, CLASSES))


BUILDS: dict[str, Callable[[], nn.Module]] = {
    "convolutional": convolutional,
    "perceptron": perceptron,
    "dropout": forgetful,
}


def images(examples: int = 160) -> ImageData:
    """Noise; labels that depend on it, some classes more frequent than others."""
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randint(0, 256, (examples + 20, *SHAPE), dtype=torch.uint8, generator=generator)
    direction = torch.randn(inputs[0].numel(), CLASSES, generator=generator)
    labels = (inputs.flatten(1).float() @ direction).argmax(1)
    return ImageData("noise", inputs[20:], labels[20:], inputs[:20], labels[:20], CLASSES)


def network_of(
    build: Callable[[], nn.Module],
    shape: Sequence[int] = SHAPE,
    classes: int = CLASSES,
    initialisation: str = "kaiming_normal",
) -> Network:
    return describe(build, shape, classes, prunable_tensors(build(), shape, classes), initialisation)


def trained_rows(network: Network, seeds: tuple[int, ...]) -> torch.Tensor:
    """Weights that are not the initial ones, biases and norms among them, each seed its own."""
    return initialise(network, seeds) + torch.stack(
        [0.1 * torch.randn(network.layout.width, generator=stream(seed, "trained")) for seed in seeds]
    )


def trained_buffers(network: Network, seeds: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Running means and variances as after some training, each seed its own."""
    buffers = initial_buffers(network, seeds)
    for name, buffer in buffers.items():
        if buffer.is_floating_point():
            for row, seed in enumerate(seeds):
                buffer[row] += 0.3 * torch.rand(buffer[row].shape, generator=stream(seed, f"buffer/{name}"))
    return buffers


def masks_of(network: Network, seeds: tuple[int, ...], density: float = 0.7) -> dict[str, torch.Tensor]:
    """A mask per seed with the same count in every layer, the same whatever the cohort."""
    masks = {}
    for tensor in network.prunable:
        order = torch.stack([torch.randperm(tensor.size, generator=stream(seed, tensor.name)) for seed in seeds])
        masks[tensor.name] = (order < round(density * tensor.size)).view(len(seeds), *tensor.shape)
    return masks


def cohort_of(network: Network, seeds: tuple[int, ...], data: ImageData) -> Scored:
    """A cohort with everything that a criterion can ask for; its movement is made up."""
    return Scored(
        network,
        seeds,
        trained_rows(network, seeds),
        trained_buffers(network, seeds),
        initialise(network, seeds),
        {"movement": trained_rows(network, seeds) - initialise(network, seeds)},
        make_feed(data, seeds, 40, data.transform("channel")),
        data.input_shape,
    )


def everything(
    network_name: str, seeds: tuple[int, ...], sample: Sample | None = None, round_: int = 0
) -> dict[str, Tensors]:
    """All evidence that there is, of a trained and pruned cohort: need -> tensor -> [seeds, *shape]."""
    network, data = network_of(BUILDS[network_name]), images()
    cohort = cohort_of(network, seeds, data)
    return gather(
        EVERYTHING,
        network,
        seeds,
        cohort.weights,
        cohort.buffers,
        network.masks(masks_of(network, seeds)),
        initial=cohort.initial,
        watched=cohort.watched,
        feed=cohort.feed,
        sample=sample,
        input_shape=SHAPE,
        level=2,
        round_=round_,
    )
