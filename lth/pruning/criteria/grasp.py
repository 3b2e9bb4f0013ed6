"""GraSP: keep the gradient flowing (Wang, Zhang & Grosse 2020)."""

from __future__ import annotations

import torch

from lth.pruning.criteria.registry import register_criterion


@register_criterion(
    "grasp", "w Hg: pruned is what lowers the gradient's norm least (Wang et al. 2020)", per_class=10, temperature=200.0
)
def grasp(weights: torch.Tensor, hessian_gradient: torch.Tensor) -> torch.Tensor:
    """The paper removes the highest S = -w * Hg; low scores are pruned here, so the score is -S = w * Hg.

    Its authors score in training mode, in two halves sorted by class (`pruning.scoring.halves: true`).
    """
    return weights * hessian_gradient
