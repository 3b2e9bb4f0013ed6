"""Movement (Sanh, Wolf & Rush 2020): what training does to each weight, as evidence for a criterion."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lth.engine.state import CohortState, Kept
from lth.engine.watchers.registry import Watcher, register_watcher


@register_watcher("movement", "-sum over the steps of w dL/dw, for the criterion of that name")
@dataclass(frozen=True)
class Movement(Watcher):
    """Accumulates -w dL/dw of every step; of pruned weights it stays 0, as they are."""

    def begin(self, state: CohortState) -> Kept:
        return {"movement": torch.zeros_like(state.weights)}

    def on_gradient(self, state: CohortState, kept: Kept, gradient: torch.Tensor) -> None:
        kept["movement"].addcmul_(state.weights, gradient, value=-1.0)
