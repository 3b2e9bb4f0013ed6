"""Optimal brain damage with the empirical Fisher diagonal (LeCun et al. 1990)."""

from __future__ import annotations

import torch

from lth.pruning.criteria.registry import register_criterion


@register_criterion(
    "fisher", "w^2 F / 2, F the diagonal of the empirical Fisher (OBD, LeCun et al. 1990)", examples=1000
)
def fisher(weights: torch.Tensor, fisher_diagonal: torch.Tensor) -> torch.Tensor:
    """Half the second-order change of the loss, 1/2 H_jj w_j^2, the Hessian's diagonal estimated by the Fisher's."""
    return 0.5 * fisher_diagonal * weights.square()
