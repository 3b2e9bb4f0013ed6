"""A number for each example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

from lth.errors import InvalidExperiment
from lth.objectives.registry import Target, register_objective
from lth.objectives.scores import SCORES
from lth.settings import setting


@register_objective("regression", "A number: mean squared error of one output.")
@dataclass(frozen=True)
class Regression:
    """Mean squared error of outputs [batch, 1], in squared deviations of the target over the seed's training split."""

    score: Literal["r2"] = setting("r2", "What networks are judged by: `r2`, the share of the variance explained.")

    def outputs(self, target: Target) -> int:
        if target.kind != "number":
            raise InvalidExperiment(
                "objective 'regression' learns a number, but the target of this data set is one of "
                f"{target.classes} classes; set objective.kind to classification"
            )
        return 1

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.mse_loss(outputs.squeeze(1), targets.to(outputs.dtype))

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs.squeeze(2) - targets).square()

    def output_gradient(
        self, outputs: torch.Tensor, targets: torch.Tensor, out: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """2 (output - target) / batch."""
        torch.sub(outputs, targets.unsqueeze(2), out=out)
        summed = out.square().sum((1, 2), dtype=torch.float64)
        sums = SCORES[self.score].sums_of(outputs, targets)
        out.mul_(2.0 / outputs.shape[1])
        return summed, sums
