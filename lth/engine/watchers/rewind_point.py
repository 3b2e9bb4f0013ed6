"""The rewind point: weights and buffers of an early step, for late rewinding."""

from __future__ import annotations

from dataclasses import dataclass

from lth.engine.state import CohortState, Kept
from lth.engine.watchers.registry import Change, Watcher, register_watcher
from lth.settings import Steps, setting


@register_watcher("rewind_point", "weights and buffers of step k, for late rewinding; there where that asks for it")
@dataclass(frozen=True)
class RewindPoint(Watcher):
    """Keeps nothing before step k, then `weights` and `buffers/<name>` as they were at it."""

    step: Steps = setting(description="k: the step whose weights are kept.")

    def on_step(self, state: CohortState, kept: Kept) -> Change | None:
        if state.step == self.step:
            kept["weights"] = state.weights.clone()
            kept.update({f"buffers/{name}": buffer.clone() for name, buffer in state.buffers.items()})
        return None
