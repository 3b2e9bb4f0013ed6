"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.sgd import sgd

from lth.engine.optimizers.registry import Moments, register_optimizer
from lth.settings import setting


@register_optimizer("sgd", "SGD.")
@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum (Nesterov's form on request) and L2 weight decay."""

    learning_rate: float = setting(0.1, "Step size before the schedule's factor.", gt=0, le=100)
    momentum: float = setting(0.9, "Momentum; 0 for none.", ge=0, lt=1)
    nesterov: bool = setting(False, "Nesterov's form of momentum.")
    weight_decay: float = setting(0.0, "L2 penalty added to the gradient.", ge=0, le=1)

    @staticmethod
    def check(section: Any) -> None:
        if section.nesterov and section.momentum == 0:
            raise ValueError(f"nesterov needs a momentum above 0; got {section.momentum}")

    def moments(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        # torch begins with the first gradient, which is what a momentum of zeros becomes
        return {"momentum": torch.zeros_like(weights)} if self.momentum else {}

    def step(self, weights: torch.Tensor, gradient: torch.Tensor, moments: Moments, learning_rate: float) -> None:
        sgd(
            [weights],
            [gradient],
            [moments.get("momentum")],
            fused=True,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=learning_rate,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
        )
