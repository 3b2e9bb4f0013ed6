"""SynFlow: synaptic flow, without data (Tanaka et al. 2020)."""

from __future__ import annotations

import torch

from lth.pruning.criteria.registry import register_criterion


@register_criterion(
    "synflow", "|w| dR/d|w|, R the flow of ones through |w|, 100 rounds, no data (Tanaka et al. 2020)", rounds=100
)
def synflow(weights: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """|dR/d|w| * |w||; in a network without biases the scores of every layer have the same sum."""
    return flow.abs() * weights.abs()
