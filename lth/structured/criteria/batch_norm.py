"""Scales of batch norms (network slimming)."""

from __future__ import annotations

import torch

from lth.structured.criteria.registry import register_unit_criterion


@register_unit_criterion("bn_scale", "for units: mean |gamma| of the unit's batch norms (Liu et al. 2017)")
def bn_scale(scales: torch.Tensor) -> torch.Tensor:
    """Mean |gamma| over the batch norms on the unit (Liu et al. 2017, who prune it across all layers)."""
    return scales.abs().mean(2)
