"""Loss and accuracy of a cohort on a split."""

from __future__ import annotations

import torch

from lth.engine.feed import Feed, aligned_empty, standardised
from lth.engine.programs import Buffers, Program

# Examples per seed and pass: fixed, so that a seed's sums never depend on the cohort or the machine.
EVALUATION_BATCH = 500


def evaluate(
    program: Program, weights: torch.Tensor, buffers: Buffers, feed: Feed, split: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy in nats and accuracy, float64 [seeds] each, on `train`, `validation` or `test`.

    Training and validation splits are each seed's own; the test split is the same for all, standardised with each
    seed's own statistics. Nothing is copied to the host.
    """
    seeds = len(feed.seeds)
    if split == "test":
        inputs, labels = feed.test_inputs, feed.test_labels
        indices = torch.arange(len(labels), device=feed.device).expand(seeds, -1)
    elif split in ("train", "validation"):
        inputs, labels = feed.inputs, feed.labels
        indices = feed.train if split == "train" else feed.validation
    else:
        raise ValueError(f"unknown split {split!r}: train, validation or test")
    total = indices.shape[1]
    loss = torch.zeros(seeds, dtype=torch.float64, device=feed.device)
    correct = torch.zeros(seeds, dtype=torch.int64, device=feed.device)
    space = aligned_empty(seeds, min(EVALUATION_BATCH, total), *inputs.shape[1:], device=feed.device)
    for start in range(0, total, EVALUATION_BATCH):
        chosen = indices[:, start : start + EVALUATION_BATCH]
        count = chosen.shape[1]
        flat = chosen.reshape(-1)
        pixels = inputs.index_select(0, flat).view(seeds, count, *inputs.shape[1:])
        out = space if count == space.shape[1] else aligned_empty(seeds, *pixels.shape[1:], device=feed.device)
        logits = program.logits(weights, buffers, standardised(feed, pixels, out=out))
        target = labels.index_select(0, flat).view(seeds, count)
        likelihood = torch.log_softmax(logits, 2).gather(2, target.unsqueeze(2)).squeeze(2)
        loss -= likelihood.double().sum(1)
        correct += (logits.argmax(2) == target).sum(1)
    return loss / total, correct.double() / total
