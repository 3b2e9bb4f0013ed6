"""Early stop: the weights of the lowest validation loss so far."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lth.engine.state import CohortState, Kept
from lth.engine.watchers.registry import Change, Evaluation, Watcher, register_watcher


@register_watcher("early_stop", "the weights of the lowest validation loss; always there")
@dataclass(frozen=True)
class EarlyStop(Watcher):
    """The first step of the lowest validation loss, and the weights and buffers then. Training goes on: results are
    read there afterwards, as in Frankle & Carbin (2019)."""

    def begin(self, state: CohortState) -> Kept:
        device = state.weights.device
        return {
            "loss": torch.full((state.seeds,), torch.inf, dtype=torch.float64, device=device),
            "step": torch.full((state.seeds,), state.step, dtype=torch.int64, device=device),
            "weights": state.weights.clone(),
            **{f"buffers/{name}": buffer.clone() for name, buffer in state.buffers.items()},
        }

    def on_evaluation(self, state: CohortState, kept: Kept, evaluation: Evaluation) -> Change | None:
        better = evaluation.loss < kept["loss"]
        kept["loss"] = torch.where(better, evaluation.loss, kept["loss"])
        kept["step"] = kept["step"].masked_fill(better, state.step)
        torch.where(better.unsqueeze(1), state.weights, kept["weights"], out=kept["weights"])
        for name, buffer in state.buffers.items():
            best = kept[f"buffers/{name}"]
            best.copy_(torch.where(better.view(-1, *[1] * (best.ndim - 1)), buffer, best))
        return None
