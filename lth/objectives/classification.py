"""One class of several for each example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

from lth.errors import InvalidExperiment
from lth.objectives.registry import Target, register_objective
from lth.objectives.scores import SCORES
from lth.settings import setting


@register_objective("classification", "One class of several: cross-entropy of logits.")
@dataclass(frozen=True)
class Classification:
    """Cross-entropy in nats of logits [batch, classes]."""

    score: Literal["accuracy", "auroc"] = setting(
        "accuracy", "What networks are judged by: `accuracy`, or `auroc`, which rare classes do not flatter."
    )

    def outputs(self, target: Target) -> int:
        if target.kind != "class":
            raise InvalidExperiment(
                "objective 'classification' learns classes, but the target of this data set is a number; set "
                "objective.kind to regression"
            )
        return target.classes

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(outputs, targets)

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return -torch.log_softmax(outputs, 2).gather(2, targets.unsqueeze(2)).squeeze(2)

    def output_gradient(
        self, outputs: torch.Tensor, targets: torch.Tensor, out: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(softmax - one-hot) / batch."""
        target = targets.unsqueeze(2)
        likelihoods = torch.log_softmax(outputs, 2)
        picked = likelihoods.gather(2, target)
        summed = -picked.sum((1, 2), dtype=torch.float64)
        if self.score == "accuracy":
            sums = (likelihoods.argmax(2) == targets).sum(1).double().unsqueeze(0)
        else:
            sums = SCORES[self.score].sums_of(outputs, targets)
        torch.exp(likelihoods, out=out)
        out.scatter_add_(2, target, picked.fill_(-1.0)).mul_(1.0 / outputs.shape[1])
        return summed, sums
