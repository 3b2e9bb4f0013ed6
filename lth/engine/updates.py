"""The optimizer's step over a whole cohort, with pruned weights exactly zero after it, whatever the optimizer.

Two ways, which agree to the bit because every weight goes through the same vector arithmetic:

- all weights: gradients of pruned weights are set to zero first. Their weights and moments start at zero, and momentum,
  Adam and weight decay only multiply and add zeros, so they stay there;
- survivors: the surviving weights are kept beside the network as one dense tensor, with moments for nothing else. Their
  gradients are gathered, they step, and they are scattered back; no pruned weight is ever written. Faster once few
  weights are left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

from lth.engine.layout import padded
from lth.engine.optimizers import Optimizer

# Below this density gathering and scattering costs less on a CPU than stepping over zeros (measured: LeNet-300-100).
SPARSE_BELOW = 0.3


class Updates(Protocol):
    """How gradients become new weights. Its moments are those of the optimizer, in a layout of its own."""

    moments: dict[str, torch.Tensor]

    def step(self, learning_rate: float) -> None:
        """One step on the gradients that lie in the rows given at the start."""

    def restore(self, moments: Mapping[str, torch.Tensor]) -> None:
        """Take up saved moments of the same layout; the weights must have been restored before."""

    def moment_rows(self) -> dict[str, torch.Tensor]:
        """The moments as rows [seeds, width], pruned weights zero; scalars as they are."""

    def take_rows(self, rows: Mapping[str, torch.Tensor]) -> None:
        """The reverse of `moment_rows`, for weights whose mask has changed."""


def make_updates(
    optimizer: Optimizer,
    weights: torch.Tensor,
    gradient: torch.Tensor,
    mask: torch.Tensor,
    sparse: bool | None = None,
) -> Updates:
    """The faster way for these rows [seeds, width]; `sparse` forces one (for tests)."""
    counts = mask.sum(1)
    if sparse is None:
        sparse = weights.device.type == "cpu" and float(mask.float().mean()) < SPARSE_BELOW
    if sparse and bool((counts == counts[0]).all()):
        return SurvivingWeights(optimizer, weights, gradient, mask)
    return AllWeights(optimizer, weights, gradient, mask)


class AllWeights:
    """Steps over every weight, with the gradients of pruned ones set to zero."""

    def __init__(self, optimizer: Optimizer, weights: torch.Tensor, gradient: torch.Tensor, mask: torch.Tensor) -> None:
        # A dense network needs no multiplication: x * 1 is x, to the bit.
        self.mask = None if bool(mask.all()) else mask.float()
        self.optimizer = optimizer
        self.weights = weights
        self.gradient = gradient
        self.moments = optimizer.moments(weights)

    def step(self, learning_rate: float) -> None:
        if self.mask is not None:
            self.gradient.mul_(self.mask)
        self.optimizer.step(self.weights, self.gradient, self.moments, learning_rate)

    def restore(self, moments: Mapping[str, torch.Tensor]) -> None:
        for name, value in self.moments.items():
            value.copy_(moments[name])

    def moment_rows(self) -> dict[str, torch.Tensor]:
        return dict(self.moments)

    def take_rows(self, rows: Mapping[str, torch.Tensor]) -> None:
        for name, value in self.moments.items():
            value.copy_(rows[name] if self.mask is None or not value.ndim else rows[name] * self.mask)


class SurvivingWeights:
    """Steps over the survivors only. `index` [seeds, survivors] says where in its row each of them lives."""

    def __init__(self, optimizer: Optimizer, weights: torch.Tensor, gradient: torch.Tensor, mask: torch.Tensor) -> None:
        seeds, width = weights.shape
        count = int(mask[0].sum())
        # Filled up to the alignment with the row's last float, which is padding: its gradient is always zero.
        self.index = torch.full((seeds, padded(count)), width - 1, dtype=torch.int64, device=weights.device)
        self.index[:, :count] = mask.nonzero()[:, 1].view(seeds, count)
        self.optimizer = optimizer
        self.rows = weights
        self.gradient = gradient
        self.survivors = weights.gather(1, self.index)
        self.gathered = torch.zeros_like(self.survivors)
        self.moments = optimizer.moments(self.survivors)

    def step(self, learning_rate: float) -> None:
        torch.gather(self.gradient, 1, self.index, out=self.gathered)
        self.optimizer.step(self.survivors, self.gathered, self.moments, learning_rate)
        self.rows.scatter_(1, self.index, self.survivors)

    def restore(self, moments: Mapping[str, torch.Tensor]) -> None:
        self.survivors.copy_(self.rows.gather(1, self.index))
        for name, value in self.moments.items():
            value.copy_(moments[name])

    def moment_rows(self) -> dict[str, torch.Tensor]:
        return {
            name: torch.zeros_like(self.rows).scatter_(1, self.index, value) if value.ndim else value
            for name, value in self.moments.items()
        }

    def take_rows(self, rows: Mapping[str, torch.Tensor]) -> None:
        for name, value in self.moments.items():
            value.copy_(rows[name].gather(1, self.index) if value.ndim else rows[name])
