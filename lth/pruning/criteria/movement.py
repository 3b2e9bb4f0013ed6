"""Movement pruning (Sanh, Wolf & Rush 2020)."""

from __future__ import annotations

import torch

from lth.pruning.criteria.registry import register_criterion


@register_criterion(
    "movement", "-sum over training of w dL/dw: weights that move away from 0 (Sanh et al. 2020)", trained=True
)
def movement_score(movement: torch.Tensor) -> torch.Tensor:
    """Accumulated while the network trains: positive where steps have moved the weight away from zero."""
    return movement
