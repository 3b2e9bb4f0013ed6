"""Noise."""

from __future__ import annotations

import torch

from lth.engine.evidence.cohort import OneSeed
from lth.engine.evidence.registry import register_evidence


@register_evidence("noise", "uniform numbers in [0, 1) from the seed's own stream")
def noise(one: OneSeed) -> dict[str, torch.Tensor]:
    """Uniform numbers in [0, 1), drawn on the CPU from a stream of the seed for each tensor, level and round."""
    return {
        name: torch.rand(one.parameters[name].shape, generator=one.stream(f"noise/{name}")).to(
            one.parameters[name].device
        )
        for name in one.names
    }
