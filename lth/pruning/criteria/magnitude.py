"""Magnitudes: of trained weights, of initial weights, and what training added (Zhou et al. 2019)."""

from __future__ import annotations

import torch

from lth.pruning.criteria.registry import register_criterion


@register_criterion("magnitude", "|w| (Han et al. 2015; Frankle & Carbin 2019)")
def magnitude(weights: torch.Tensor) -> torch.Tensor:
    """The absolute value of each weight as it is: trained, or initial where one prunes at initialisation."""
    return weights.abs()


@register_criterion("magnitude_init", "|w_0|, the initial magnitude")
def magnitude_init(initial_weights: torch.Tensor) -> torch.Tensor:
    """The absolute value of each initial weight ("large init" of Zhou et al. 2019)."""
    return initial_weights.abs()


@register_criterion(
    "magnitude_increase", "|w| - |w_0|, what training added to the magnitude (Zhou et al. 2019)", trained=True
)
def magnitude_increase(weights: torch.Tensor, initial_weights: torch.Tensor) -> torch.Tensor:
    """How much the magnitude has grown since initialisation ("magnitude increase" of Zhou et al. 2019)."""
    return weights.abs() - initial_weights.abs()
