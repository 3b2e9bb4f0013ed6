"""Networks that people bring: some that must be right, some that cannot be. Inputs are digits, [1, 8, 8]."""

from __future__ import annotations

import itertools
import os
import random
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

OWN = np.random.default_rng(0)
OWN_TORCH = torch.Generator().manual_seed(0)
CALLS = itertools.count(1)
BUILT = 0


class Net(nn.Module):
    """Two dense layers; subclasses change what lies between."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 12)
        self.second = nn.Linear(12, 10)

    def between(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.relu()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.second(self.between(self.first(images.flatten(1))))


def _filled(values: np.ndarray) -> Net:
    net = Net()
    with torch.no_grad():
        net.first.weight.copy_(torch.from_numpy(values.astype("float32")))
    return net


# --- right: what they draw from is the seed's


def drawn_by_numpy():
    return _filled(0.1 * np.random.randn(12, 64))


def drawn_by_python():
    return _filled(np.array([[random.gauss(0, 0.1) for _ in range(64)] for _ in range(12)]))


class RandomBranch(Net):
    def between(self, hidden):
        return hidden.relu() if not self.training or random.random() < 0.5 else hidden.tanh()


class NoiseByNumpy(Net):
    def between(self, hidden):
        noise = np.random.randn(*hidden.shape).astype("float32")
        return hidden.relu() + (torch.from_numpy(noise) * 0.1 if self.training else 0)


class Dropout(Net):
    def between(self, hidden):
        return functional.dropout(hidden.relu(), 0.2, self.training)


class DropoutAlways(Net):
    def between(self, hidden):
        return functional.dropout(hidden.relu(), 0.2)


class FixedNoise(Net):
    """A generator of its own, begun anew in every pass."""

    def between(self, hidden):
        return hidden.relu() + 0.1 * torch.rand(hidden.shape[1], generator=torch.Generator().manual_seed(1))


class CountsForItself(Net):
    """A count that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def between(self, hidden):
        self.passes += 1
        return hidden.relu()


class CountsInABuffer(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def between(self, hidden):
        if self.training:
            self.passes += 1
        return hidden.relu() * (1 + 0.01 * self.passes)


class LastAttention(Net):
    """Something kept for those who look at it."""

    def between(self, hidden):
        self.shown = hidden.softmax(1)
        return hidden * self.shown


class ChangesItsInput(Net):
    def forward(self, images):
        images.sub_(0.5)
        return super().forward(images)


class NormTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(4)
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), norm, nn.ReLU(), nn.Conv2d(4, 4, 3), norm, nn.Flatten(), nn.Linear(64, 10)
        )

    def forward(self, images):
        return self.layers(images)


class LayerTwice(Net):
    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Linear(12, 12)
        self.again = self.middle

    def between(self, hidden):
        return self.again(self.middle(hidden).relu()).relu()


class HeldInEvaluation(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(12).eval()

    def between(self, hidden):
        return self.norm(hidden).relu()


class LooksAtValues(Net):
    def between(self, hidden):
        return hidden.relu() if hidden.mean().item() > 0 else hidden.tanh()


class ShapesOfValues(Net):
    """Only examples with a bright corner pass the hidden layer."""

    def between(self, hidden):
        bright = (hidden[:, 0] > 0).nonzero().flatten()
        return hidden.index_copy(0, bright, hidden[bright].relu())


class Attention(nn.Module):
    """torch's attention over the rows of a digit."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, images):
        rows = self.embed(images.squeeze(1))
        return self.head(self.attention(rows, rows, rows, need_weights=False)[0].flatten(1))


class WithNorm(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(12)

    def between(self, hidden):
        return self.norm(hidden).relu()


# --- refused


class PartsOfASet(nn.Module):
    """Which hidden layer is built first depends on the process."""

    def __init__(self) -> None:
        super().__init__()
        for name in {"left", "right", "upper", "lower", "inner", "outer"}:
            setattr(self, name, nn.Linear(64, 3))
        self.head = nn.Linear(18, 10)

    def forward(self, images):
        parts = [
            getattr(self, name)(images.flatten(1)) for name in ("left", "right", "upper", "lower", "inner", "outer")
        ]
        return self.head(torch.cat(parts, 1).relu())


def drawn_by_an_own_generator():
    return _filled(0.1 * OWN.standard_normal((12, 64)))


def drawn_by_an_own_torch_generator():
    net = Net()
    nn.init.normal_(net.second.weight, generator=OWN_TORCH)
    return net


def drawn_by_the_system():
    return _filled(np.frombuffer(os.urandom(12 * 64), dtype=np.uint8).reshape(12, 64) / 1000)


def seeded_by_the_clock():
    torch.manual_seed(int(time.time()))
    return Net()


def counts_its_calls():
    return _filled(np.full((12, 64), 0.1 / next(CALLS)))


def another_layer_every_time():
    global BUILT
    BUILT += 1
    net = Net()
    if BUILT % 2:
        net.extra = nn.Parameter(torch.zeros(3))
    return net


KEPT = Net()
KEPT_LAYER = nn.Linear(64, 12)


def the_same_every_time():
    return KEPT


def with_a_layer_of_all():
    net = Net()
    net.first = KEPT_LAYER
    return net


class OwnGenerator(Net):
    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def between(self, hidden):
        return hidden.relu() + 0.1 * torch.rand(hidden.shape[1], generator=self.generator)


class OwnGlobalGenerator(Net):
    def between(self, hidden):
        return hidden.relu() * float(OWN.uniform(0.9, 1.1))


class NoiseOfTheSystem(Net):
    def between(self, hidden):
        return hidden.relu() * (1 + os.urandom(1)[0] / 1000)


class ByTheClock(Net):
    def between(self, hidden):
        return hidden.relu() * (1 + time.perf_counter() % 1)


class CountsPasses(Net):
    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def between(self, hidden):
        self.passes += 1
        return hidden.relu() / self.passes


class ChangesLater(Net):
    """Another network after a thousand passes."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = {"training": 0}

    def between(self, hidden):
        self.passes["training"] += 1
        return hidden.relu() if self.passes["training"] < 1000 else hidden.tanh()


class MeanOfThePast(Net):
    """Training keeps a mean that only evaluation reads."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.zeros(12)

    def between(self, hidden):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * hidden.detach().mean(0)
            return hidden.relu()
        return (hidden - self.mean).relu()


class KeepsItsWeights(Net):
    """What is computed of the weights at the first pass is used ever after."""

    def between(self, hidden):
        if not hasattr(self, "scale"):
            self.scale = self.first.weight.detach().norm()
        return hidden.relu() / self.scale


class Detached(Net):
    def forward(self, images):
        return super().forward(images).detach()


class NoGradient(Net):
    def forward(self, images):
        with torch.no_grad():
            return super().forward(images)


class Chosen(Net):
    def forward(self, images):
        return functional.one_hot(super().forward(images).argmax(1), 10).float()


class NotFinite(Net):
    def between(self, hidden):
        return hidden.log()


class OneBatchSize(Net):
    def forward(self, images):
        return super().forward(images.view(32, 64))


class EvenBatches(Net):
    def between(self, hidden):
        return hidden.view(2, -1, 12).flatten(0, 1).relu()


class DropsTheRest(Net):
    """Answers for at most 100 examples."""

    def forward(self, images):
        return super().forward(images[:100])


class NoSecondDerivative(Net):
    """Distances, which torch differentiates once."""

    def between(self, hidden):
        return torch.cdist(hidden, torch.eye(12), p=2.0)


class MovesAway(Net):
    def forward(self, images):
        return super().forward(images.cuda())


class PartlyDetached(Net):
    def __init__(self) -> None:
        super().__init__()
        self.side = nn.Linear(64, 12)

    def forward(self, images):
        return self.second(self.first(images.flatten(1)).relu() + self.side(images.flatten(1)).detach())
