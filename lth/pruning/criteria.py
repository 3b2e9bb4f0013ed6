"""Criteria: pure functions that score weights. Low scores are pruned; who wins is decided in `scopes`."""

from __future__ import annotations

from collections.abc import Callable

import torch

Criterion = Callable[[torch.Tensor], torch.Tensor]
CRITERIA: dict[str, tuple[Criterion, str]] = {}


def register_criterion(name: str, description: str) -> Callable[[Criterion], Criterion]:
    """Decorator: make a score known by `name`."""

    def register(score: Criterion) -> Criterion:
        CRITERIA[name] = (score, description)
        return score

    return register


def criterion_names() -> dict[str, str]:
    """Every registered criterion and its one-line description."""
    return {name: description for name, (_, description) in sorted(CRITERIA.items())}


@register_criterion("magnitude", "|w| after training (Han et al. 2015; Frankle & Carbin 2019)")
def magnitude(weights: torch.Tensor) -> torch.Tensor:
    """The absolute value of each trained weight."""
    return weights.abs()
