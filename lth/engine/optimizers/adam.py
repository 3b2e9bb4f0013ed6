"""Adam (Kingma & Ba 2015), and AdamW, which decays weights beside it (Loshchilov & Hutter 2019).

By torch's fused functional form: its optimizer classes cost 60 us a step beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.optim.adam import adam

from lth.engine.optimizers.registry import Moments, register_optimizer
from lth.settings import setting


@register_optimizer("adam", "Adam.")
@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015) with L2 weight decay."""

    learning_rate: float = setting(1.2e-3, "Step size before the schedule's factor.", gt=0, le=100)
    beta1: float = setting(0.9, "Decay of the running mean of gradients, per step.", ge=0, lt=1)
    beta2: float = setting(0.999, "Decay of the running mean of squared gradients, per step.", ge=0, lt=1)
    epsilon: float = setting(1e-8, "Added to the denominator.", gt=0, le=1)
    weight_decay: float = setting(0.0, "L2 penalty added to the gradient.", ge=0, le=1)

    def moments(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        return _moments(weights)

    def step(self, weights: torch.Tensor, gradient: torch.Tensor, moments: Moments, learning_rate: float) -> None:
        _step(self, weights, gradient, moments, learning_rate, decoupled=False)


@register_optimizer("adamw", "Adam with decoupled weight decay.")
@dataclass(frozen=True)
class AdamW:
    """Adam whose weight decay does not pass through the moments: w shrinks by learning rate x decay a step."""

    learning_rate: float = setting(1e-3, "Step size before the schedule's factor.", gt=0, le=100)
    beta1: float = setting(0.9, "Decay of the running mean of gradients, per step.", ge=0, lt=1)
    beta2: float = setting(0.999, "Decay of the running mean of squared gradients, per step.", ge=0, lt=1)
    epsilon: float = setting(1e-8, "Added to the denominator.", gt=0, le=1)
    weight_decay: float = setting(0.01, "Part of a weight that goes per step, times the learning rate.", ge=0, le=1)

    def moments(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        return _moments(weights)

    def step(self, weights: torch.Tensor, gradient: torch.Tensor, moments: Moments, learning_rate: float) -> None:
        _step(self, weights, gradient, moments, learning_rate, decoupled=True)


def _moments(weights: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "exp_avg": torch.zeros_like(weights),
        "exp_avg_sq": torch.zeros_like(weights),
        "step": torch.zeros((), dtype=torch.float32, device=weights.device),
    }


def _step(
    settings: Adam | AdamW,
    weights: torch.Tensor,
    gradient: torch.Tensor,
    moments: Moments,
    learning_rate: float,
    decoupled: bool,
) -> None:
    adam(
        [weights],
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
        decoupled_weight_decay=decoupled,
    )
