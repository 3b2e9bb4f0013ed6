"""Magnitudes of the weights that write a unit."""

from __future__ import annotations

import torch

from lth.structured.criteria.registry import register_unit_criterion


@register_unit_criterion("l1", "for units: mean |w| of the weights that write the unit (Li et al. 2017)")
def l1(weights: torch.Tensor, remaining: torch.Tensor) -> torch.Tensor:
    """Mean |w| over the remaining weights. Within a group that is the order of the sum of |w| (Li et al. 2017, who call
    it the filter's average magnitude)."""
    return weights.abs().sum(2, dtype=torch.float64) / remaining.sum(2).clamp(min=1)


@register_unit_criterion("l2", "for units: root mean square of the weights that write the unit (Molchanov et al. 2017)")
def l2(weights: torch.Tensor, remaining: torch.Tensor) -> torch.Tensor:
    """The root of the remaining weights' mean square: the norm, divided by the count as in Molchanov et al. (2017)."""
    return (weights.square().sum(2, dtype=torch.float64) / remaining.sum(2).clamp(min=1)).sqrt()
