"""Random pruning: the control that every criterion has to beat."""

from __future__ import annotations

import torch

from lth.pruning.criteria.registry import register_criterion


@register_criterion("random", "uniform noise, drawn for every seed")
def random(noise: torch.Tensor) -> torch.Tensor:
    """Uniform numbers in [0, 1): every weight is as likely to stay as any other that competes with it."""
    return noise
