"""What came of a training: typed, on the host, every tensor with the seeds as its first axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from lth.engine.named_tensors import mapped, named_tensors, structured
from lth.engine.state import CohortState, Ended, chosen


@dataclass(frozen=True)
class Snapshot:
    """A cohort's weights [seeds, width] and buffers [seeds, *shape] at a step."""

    weights: torch.Tensor
    buffers: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Curves:
    """Evaluations during a training; each figure is float64 [seeds, evaluations], `steps` int64 [evaluations].

    Training figures are means over the batches since the evaluation before (NaN at the first); validation figures are
    over the whole validation split. A seed's curve is that far as its training went.
    """

    steps: torch.Tensor
    train_loss: torch.Tensor
    train_score: torch.Tensor
    validation_loss: torch.Tensor
    validation_score: torch.Tensor


@dataclass(frozen=True)
class Trained:
    """A finished training: the mask and the weights that it ended with, and what watchers have kept.

    `mask` bool rows [seeds, width]. `early_stop_step` int64 [seeds]: the step of the lowest validation loss (the first,
    if several). `last_step` int64 [seeds]: the step at which a seed's training ended. `rewind_point` is there if a
    watcher kept it; `kept` holds what all other watchers kept, by their names.
    `seconds` float64 [seeds]: the wall-clock time of each, where somebody has measured it.
    """

    end: Snapshot
    mask: torch.Tensor
    last_step: torch.Tensor
    early_stop: Snapshot
    early_stop_step: torch.Tensor
    rewind_point: Snapshot | None
    kept: dict[str, dict[str, torch.Tensor]]
    diverged: torch.Tensor
    curves: Curves
    seconds: torch.Tensor | None = None


def joined(parts: Sequence[Trained], order: Sequence[int]) -> Trained:
    """Blocks of a cohort as one training; `order` says which row of the cohort each row of the parts is.

    Evaluations are those of the block that trained longest: a seed that a watcher ended has a `last_step`.
    """
    longest = max((part.curves.steps for part in parts), key=len)
    named = [named_tensors(replace(part, curves=_padded(part.curves, longest))) for part in parts]
    back = torch.tensor(order).argsort()
    return structured(
        Trained,
        {
            name: longest if name == "curves/steps" else torch.cat([part[name] for part in named])[back]
            for name in named[0]
        },
    )


def _padded(curves: Curves, steps: torch.Tensor) -> Curves:
    """The curves as far as `steps`: NaN past their end."""
    lacking = len(steps) - len(curves.steps)
    return mapped(curves, lambda curve: functional.pad(curve, (0, lacking), value=torch.nan)) if lacking else curves


def trained_of(state: CohortState) -> Trained:
    """The result of a training whose state this is."""
    now = Ended(torch.empty(0), state.weights, state.mask, state.buffers, state.kept)
    last_step = torch.full((state.seeds,), state.step, dtype=torch.int64, device=state.weights.device)
    if state.ended is not None:
        done = state.ended.at >= 0
        last_step = torch.where(done, state.ended.at, last_step)
        now = chosen(done, state.ended, replace(now, at=state.ended.at))
    others = {name: dict(tensors) for name, tensors in now.kept.items() if name not in ("early_stop", "rewind_point")}
    best, late = now.kept["early_stop"], now.kept.get("rewind_point", {})
    curve = state.curve.permute(1, 2, 0).contiguous()  # [4, seeds, evaluations]
    trained = Trained(
        end=Snapshot(now.weights, dict(now.buffers)),
        mask=now.mask,
        last_step=last_step,
        early_stop=_snapshot(best),
        early_stop_step=best["step"],
        rewind_point=_snapshot(late) if late else None,
        kept={name: tensors for name, tensors in others.items() if tensors},
        diverged=state.diverged | ~torch.isfinite(now.weights).all(1),
        curves=Curves(state.evaluated, *curve.unbind(0)),
    )
    return mapped(trained, lambda tensor: tensor.detach().to("cpu", copy=True))


def _snapshot(kept: dict[str, torch.Tensor]) -> Snapshot:
    buffers = {name.removeprefix("buffers/"): value for name, value in kept.items() if name.startswith("buffers/")}
    return Snapshot(kept["weights"], buffers)
