"""Loss and score of a cohort on a split."""

from __future__ import annotations

import torch

from lth.engine.feed import Feed, aligned_empty
from lth.engine.programs import Buffers, Program
from lth.objectives import Objective, score_of

# Examples per seed and pass: fixed, so that a seed's sums never depend on the cohort or the machine.
EVALUATION_BATCH = 500


def evaluate(
    program: Program, objective: Objective, weights: torch.Tensor, buffers: Buffers, feed: Feed, split: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss and score of the objective, float64 [seeds] each, on `train`, `validation` or `test`.

    Training and validation splits are each seed's own; the test split is the same for all, transformed by what each
    seed has measured. Nothing is copied to the host.
    """
    seeds = len(feed.seeds)
    if split == "test":
        indices = torch.arange(len(next(iter(feed.test_examples.values()))), device=feed.device).expand(seeds, -1)
    elif split in ("train", "validation"):
        indices = feed.train if split == "train" else feed.validation
    else:
        raise ValueError(f"unknown split {split!r}: train, validation or test")
    score, total = score_of(objective), indices.shape[1]
    loss = torch.zeros(seeds, dtype=torch.float64, device=feed.device)
    sums: torch.Tensor | None = None
    answers = []  # of the whole split, for scores that are made of nothing less
    space = aligned_empty(seeds, min(EVALUATION_BATCH, total), *feed.schema.input_shape, device=feed.device)
    for start in range(0, total, EVALUATION_BATCH):
        chosen = indices[:, start : start + EVALUATION_BATCH]
        out = space if chosen.shape[1] == space.shape[1] else None
        inputs, targets = feed.batch(chosen, test=split == "test", out=out)
        outputs = program.outputs(weights, buffers, inputs)
        loss += objective.losses(outputs, targets).double().sum(1)
        if score.of_split is not None:
            answers.append((outputs.clone(), targets))
        else:
            here = score.sums_of(outputs, targets)
            sums = here if sums is None else sums + here
    if score.of_split is not None:
        outputs, targets = (torch.cat(parts, 1) for parts in zip(*answers, strict=True))
        return loss / total, score.of_split(outputs, targets)
    assert sums is not None
    return loss / total, score.from_sums(sums, total)
