"""Networks of every kind whose units can be removed, in double precision with random values everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from lth.models import build_model, prunable_tensors
from lth.streams import stream
from lth.structured import UnitGroup, unit_groups
from lth.torchvision_import import import_torchvision


def small_convolutional() -> nn.Module:
    """Conv-2 in small: 6 filters of 8x8 pixels are flattened into 96 columns."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.PReLU(6),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 16, 9),
        nn.Sigmoid(),
        nn.Linear(9, 10),
    )


class Sum(nn.Module):
    """Two branches of dense layers with batch norm, summed: one group with two writers and two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(2, 3), nn.Linear(2, 3, bias=False)
        self.norm_left, self.norm_right = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
        self.output = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        return self.output(torch.relu(self.norm_left(self.left(x)) + self.norm_right(self.right(x))))


def _torchvision(architecture: str) -> nn.Module:
    return import_torchvision().models.get_model(architecture, num_classes=10)


IMAGES = (3, 8, 8)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "mlp": (lambda: build_model("mlp", IMAGES, 10, {"hidden": [20, 12]}), IMAGES),
    "convolutional": (small_convolutional, IMAGES),
    "sum": (Sum, (2, 1, 1)),
    "vgg11": (lambda: build_model("vgg11", (3, 16, 16), 10, {"width": 0.25}), (3, 16, 16)),
    "resnet20": (lambda: build_model("resnet20", IMAGES, 10, {"width": 8}), IMAGES),
    "resnet20 padded": (lambda: build_model("resnet20", IMAGES, 10, {"width": 8, "shortcut": "padding"}), IMAGES),
    "resnet18": (lambda: _torchvision("resnet18"), (3, 32, 32)),
    "mobilenet_v2": (lambda: _torchvision("mobilenet_v2"), (3, 32, 32)),
}


def built(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """The network in evaluation mode, and the shape of its images."""
    build, shape = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build().double().eval()
    generator = stream(0, "test/values")
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point() and tensor.ndim < 2:
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0  # draws for fewer units are other draws
    return module, shape


def groups_of(module: nn.Module, shape: Sequence[int], classes: int = 10) -> tuple[UnitGroup, ...]:
    return unit_groups(module.float(), shape, [tensor.name for tensor in prunable_tensors(module, shape, classes)])


def some_alive(groups: Sequence[UnitGroup], seed: int, low: float = 0.3, high: float = 0.9) -> list[torch.Tensor]:
    """Random units of every group, another fraction in each."""
    generator = stream(seed, "test/alive")
    alive = []
    for group in groups:
        fraction = low + (high - low) * float(torch.rand((), generator=generator))
        units = torch.zeros(group.units, dtype=torch.bool)
        units[torch.randperm(group.units, generator=generator)[: max(1, round(fraction * group.units))]] = True
        alive.append(units)
    return alive


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
