"""RMSprop (Tieleman & Hinton 2012), as torch computes it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.optim.rmsprop import rmsprop

from lth.engine.optimizers.registry import Moments, register_optimizer
from lth.settings import setting


@register_optimizer("rmsprop", "RMSprop.")
@dataclass(frozen=True)
class RMSprop:
    """Gradients by the root of their running mean square, with momentum and L2 weight decay on request."""

    learning_rate: float = setting(0.01, "Step size before the schedule's factor.", gt=0, le=100)
    decay: float = setting(0.99, "Decay of the running mean of squared gradients, per step.", ge=0, lt=1)
    epsilon: float = setting(1e-8, "Added to the denominator.", gt=0, le=1)
    momentum: float = setting(0.0, "Momentum; 0 for none.", ge=0, lt=1)
    weight_decay: float = setting(0.0, "L2 penalty added to the gradient.", ge=0, le=1)

    def moments(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        moments = {
            "square_avg": torch.zeros_like(weights),
            "step": torch.zeros((), dtype=torch.float32, device=weights.device),
        }
        return {**moments, "momentum": torch.zeros_like(weights)} if self.momentum else moments

    def step(self, weights: torch.Tensor, gradient: torch.Tensor, moments: Moments, learning_rate: float) -> None:
        rmsprop(
            [weights],
            [gradient],
            [moments["square_avg"]],
            [],
            [moments["momentum"]] if self.momentum else [],
            [moments["step"]],
            foreach=False,
            lr=learning_rate,
            alpha=self.decay,
            eps=self.epsilon,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            centered=False,
        )
