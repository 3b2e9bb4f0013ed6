"""First-order Taylor expansion of the loss (Molchanov et al. 2019)."""

from __future__ import annotations

import torch

from lth.pruning.criteria.registry import register_criterion


@register_criterion("taylor", "(w dL/dw)^2, averaged over batches (Molchanov et al. 2019)", examples=1000)
def taylor(weights: torch.Tensor, squared_gradient: torch.Tensor) -> torch.Tensor:
    """The squared first-order change of the loss when the weight is set to 0: mean over batches of (w dL/dw)^2."""
    return weights.square() * squared_gradient
