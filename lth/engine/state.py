"""What a training of a cohort is at a step: one named structure of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from lth.engine.named_tensors import named_tensors, structured

Kept = dict[str, torch.Tensor]
"""What a watcher keeps: tensors by name, their first axis the seeds."""


@dataclass(frozen=True)
class Start:
    """What a training starts from: weights [seeds, width], buffers, the mask (bool rows) and the step it resumes."""

    weights: torch.Tensor
    buffers: Mapping[str, torch.Tensor]
    mask: torch.Tensor
    step: int = 0


@dataclass
class Ended:
    """What is left of seeds whose training a watcher has ended: the rest of the cohort trains on.

    `at` int64 [seeds]: the step, or -1. The others hold those seeds' rows as they were then, of the mask, weights,
    buffers and what watchers keep.
    """

    at: torch.Tensor
    weights: torch.Tensor
    mask: torch.Tensor
    buffers: dict[str, torch.Tensor]
    kept: dict[str, dict[str, torch.Tensor]]


@dataclass
class CohortState:
    """Everything that a training is. A checkpoint is this structure (see `lth.engine.named_tensors`) and nothing more:
    random streams start from a seed and a step.

    `weights` float32 and `mask` bool are rows [seeds, width], pruned weights exactly zero; `buffers` [seeds, *shape].
    `moments` are the optimizer's, in the layout of its updates. `loss_sum` float64 [seeds] and `score_sums` float64
    [sums, seeds] are of the training batches since the step `measured_at`. `diverged` bool [seeds]. `evaluated` int64
    [evaluations] are the steps of the curve, float64 [evaluations, 4, seeds]: training loss and score, validation loss
    and score. `kept`: what each watcher keeps, by its name.
    """

    step: int
    weights: torch.Tensor
    mask: torch.Tensor
    buffers: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]
    loss_sum: torch.Tensor
    score_sums: torch.Tensor
    measured_at: int
    diverged: torch.Tensor
    evaluated: torch.Tensor
    curve: torch.Tensor
    kept: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    ended: Ended | None = None

    @property
    def seeds(self) -> int:
        """How many seeds train together."""
        return len(self.weights)


def begun(start: Start, score_sums: int, device: torch.device) -> CohortState:
    """The state before the first step, on the device: pruned weights are zero, nothing is measured."""
    mask = start.mask.to(device)
    weights = start.weights.to(device).masked_fill(~mask, 0.0)
    seeds = len(weights)
    return CohortState(
        step=start.step,
        weights=weights,
        mask=mask,
        buffers={name: buffer.to(device).clone() for name, buffer in start.buffers.items()},
        moments={},
        loss_sum=torch.zeros(seeds, dtype=torch.float64, device=device),
        score_sums=torch.zeros(score_sums, seeds, dtype=torch.float64, device=device),
        measured_at=start.step,
        diverged=torch.zeros(seeds, dtype=torch.bool, device=device),
        evaluated=torch.zeros(0, dtype=torch.int64),
        curve=torch.zeros(0, 4, seeds, dtype=torch.float64, device=device),
    )


def chosen(rows: torch.Tensor, these: Ended, others: Ended) -> Ended:
    """Of every tensor the rows (bool [seeds]) of one, else those of the other; what only one has is its own."""
    of_these, of_others = named_tensors(these), named_tensors(others)
    both = {}
    for name, other in of_others.items():
        this = of_these.get(name, other)
        both[name] = torch.where(rows.view(-1, *[1] * (other.ndim - 1)), this, other)
    only = {name: this.clone() for name, this in of_these.items() if name not in both}
    return structured(Ended, {**only, **both})
