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
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from lth.engine.layout import padded
from lth.engine.recipe import Optimizer

# Below this density gathering and scattering costs less on a CPU than stepping over zeros (measured: LeNet-300-100).
SPARSE_BELOW = 0.3


class Updates(Protocol):
    """How gradients become new weights."""

    def step(self, learning_rate: float) -> None:
        """One step on the gradients that lie in the rows given at the start."""

    def state(self) -> dict[str, torch.Tensor]:
        """The optimizer's tensors, for a checkpoint."""

    def restore(self, saved: Mapping[str, torch.Tensor]) -> None:
        """Take up a checkpoint; the weights must have been restored before."""


def make_updates(
    settings: Optimizer, weights: torch.Tensor, gradient: torch.Tensor, mask: torch.Tensor, sparse: bool | None = None
) -> Updates:
    """The faster way for these rows [seeds, width]; `sparse` forces one (for tests)."""
    counts = mask.sum(1)
    if sparse is None:
        sparse = weights.device.type == "cpu" and float(mask.float().mean()) < SPARSE_BELOW
    if sparse and bool((counts == counts[0]).all()):
        return SurvivingWeights(settings, weights, gradient, mask)
    return AllWeights(settings, weights, gradient, mask)


class AllWeights:
    """Steps over every weight, with the gradients of pruned ones set to zero."""

    def __init__(self, settings: Optimizer, weights: torch.Tensor, gradient: torch.Tensor, mask: torch.Tensor) -> None:
        # A dense network needs no multiplication: x * 1 is x, to the bit.
        self.mask = None if bool(mask.all()) else mask.float()
        self.gradient = gradient
        self.rule = make_rule(settings, weights)

    def step(self, learning_rate: float) -> None:
        if self.mask is not None:
            self.gradient.mul_(self.mask)
        self.rule.step(self.gradient, learning_rate)

    def state(self) -> dict[str, torch.Tensor]:
        return self.rule.state()

    def restore(self, saved: Mapping[str, torch.Tensor]) -> None:
        self.rule.restore(saved)


class SurvivingWeights:
    """Steps over the survivors only. `index` [seeds, survivors] says where in its row each of them lives."""

    def __init__(self, settings: Optimizer, weights: torch.Tensor, gradient: torch.Tensor, mask: torch.Tensor) -> None:
        seeds, width = weights.shape
        count = int(mask[0].sum())
        # Filled up to the alignment with the row's last float, which is padding: its gradient is always zero.
        self.index = torch.full((seeds, padded(count)), width - 1, dtype=torch.int64, device=weights.device)
        self.index[:, :count] = mask.nonzero()[:, 1].view(seeds, count)
        self.rows = weights
        self.gradient = gradient
        self.survivors = weights.gather(1, self.index)
        self.gathered = torch.zeros_like(self.survivors)
        self.rule = make_rule(settings, self.survivors)

    def step(self, learning_rate: float) -> None:
        torch.gather(self.gradient, 1, self.index, out=self.gathered)
        self.rule.step(self.gathered, learning_rate)
        self.rows.scatter_(1, self.index, self.survivors)

    def state(self) -> dict[str, torch.Tensor]:
        return self.rule.state()

    def restore(self, saved: Mapping[str, torch.Tensor]) -> None:
        self.survivors.copy_(self.rows.gather(1, self.index))
        self.rule.restore(saved)


class Rule(Protocol):
    """An optimizer over one tensor of weights."""

    def step(self, gradient: torch.Tensor, learning_rate: float) -> None:
        """Change the weights in place."""

    def state(self) -> dict[str, torch.Tensor]:
        """Moments and counters by name."""

    def restore(self, saved: Mapping[str, torch.Tensor]) -> None:
        """Take them up again."""


def make_rule(settings: Optimizer, weights: torch.Tensor) -> Rule:
    """torch's own fused arithmetic, by its functional form: the optimizer classes cost 60 us a step beside it."""
    return AdamRule(settings, weights) if settings.kind == "adam" else SGDRule(settings, weights)


class AdamRule:
    """Adam (Kingma & Ba 2015) with L2 weight decay."""

    def __init__(self, settings: Optimizer, weights: torch.Tensor) -> None:
        self.settings = settings
        self.weights = weights
        self.moments = {
            "exp_avg": torch.zeros_like(weights),
            "exp_avg_sq": torch.zeros_like(weights),
            "step": torch.zeros((), dtype=torch.float32, device=weights.device),
        }

    def step(self, gradient: torch.Tensor, learning_rate: float) -> None:
        settings, moments = self.settings, self.moments
        adam(
            [self.weights],
            [gradient],
            [moments["exp_avg"]],
            [moments["exp_avg_sq"]],
            [],
            [moments["step"]],
            fused=True,
            amsgrad=False,
            beta1=settings.beta1,
            beta2=settings.beta2,
            lr=learning_rate,
            weight_decay=settings.weight_decay,
            eps=settings.epsilon,
            maximize=False,
        )

    def state(self) -> dict[str, torch.Tensor]:
        return self.moments

    def restore(self, saved: Mapping[str, torch.Tensor]) -> None:
        for name, value in self.moments.items():
            value.copy_(saved[name])


class SGDRule:
    """Stochastic gradient descent with momentum (Nesterov's form on request) and L2 weight decay."""

    def __init__(self, settings: Optimizer, weights: torch.Tensor) -> None:
        self.settings = settings
        self.weights = weights
        self.momentum: list[torch.Tensor | None] = [None]  # torch starts it as the first gradient

    def step(self, gradient: torch.Tensor, learning_rate: float) -> None:
        settings = self.settings
        sgd(
            [self.weights],
            [gradient],
            self.momentum,
            fused=True,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            lr=learning_rate,
            dampening=0.0,
            nesterov=settings.nesterov,
            maximize=False,
        )

    def state(self) -> dict[str, torch.Tensor]:
        return {} if self.momentum[0] is None else {"momentum": self.momentum[0]}

    def restore(self, saved: Mapping[str, torch.Tensor]) -> None:
        self.momentum = [saved["momentum"].to(self.weights.device).clone() if "momentum" in saved else None]
