"""SNIP: connection sensitivity on one batch (Lee, Ajanthan & Torr 2019)."""

from __future__ import annotations

import torch

from lth.pruning.criteria.registry import register_criterion


@register_criterion("snip", "|w dL/dw| on one batch (Lee et al. 2019); with rounds > 1 iterative SNIP", examples=128)
def snip(weights: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """s = |w dL/dw|. The paper divides by the sum over the network, which changes no ranking.

    Its authors score in evaluation mode (`pruning.scoring.mode: eval`); without batch norm and dropout it is the same.
    """
    return (weights * gradient).abs()
