"""Linear mode connectivity: what error lies on the straight line between two trained copies of a network.

Frankle, Dziugaite, Roy & Carbin 2020, "Linear Mode Connectivity and the Lottery Ticket Hypothesis". Everywhere alpha is
the share of copy a: W(alpha) = alpha a + (1 - alpha) b.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

import pyarrow as pa
import torch
from torch import nn

from lth.engine.evaluation import evaluate
from lth.engine.feed import Feed
from lth.engine.network import Network
from lth.engine.programs import Buffers, Program
from lth.errors import LthError
from lth.models.calling import call
from lth.objectives import Objective
from lth.store.analysis_schemas import CONNECTIVITY
from lth.store.unit import Unit

Copy = tuple[torch.Tensor, Buffers]
"""A trained cohort: weights [seeds, width] and buffers, name -> [seeds, *shape]."""

BatchNorm = Literal["recompute", "interpolate"]

MEASURED_BATCHES = 20
"""Training batches over which batch-norm statistics are recomputed: with the next, at most 10,000 examples."""
MEASURED_BATCH_SIZE = 500


class Barrier(NamedTuple):
    """The highest point of a path above the mean of its ends, in the unit of the errors, and where it lies."""

    height: torch.Tensor
    alpha: torch.Tensor
    """The first alpha at which it is reached."""


def alphas(points: int = 30) -> torch.Tensor:
    """`points` evenly spaced shares of copy a, from 0 to 1, both included: float64 [points]. The paper takes 30."""
    if points < 2:
        raise LthError(f"a path of {points} points has no two ends: take at least 2, e.g. 30")
    return torch.linspace(0, 1, points, dtype=torch.float64)


def barrier(errors: torch.Tensor) -> Barrier:
    """Max over alpha of E(alpha W1 + (1 - alpha) W2) - (E(W1) + E(W2)) / 2 of errors [points, ...] at `alphas(points)`.

    The ends are among the points, so it is at least half the difference between the copies, and never below 0; nan
    where an error is nan. The paper calls a training stable if the barrier is below 2 percentage points.
    """
    shares = alphas(len(errors)).to(errors.device)
    excess = errors - 0.5 * (errors[0] + errors[-1])
    return Barrier(excess.amax(0), shares[excess.argmax(0)])


def interpolate(a: Copy, b: Copy, alpha: float) -> Copy:
    """alpha a + (1 - alpha) b of weights and of buffers; buffers that are not floats are those of a.

    In float64, rounded once: the ends are a and b to the bit, and so is every point between two equal copies.
    """
    (weights_a, buffers_a), (weights_b, buffers_b) = a, b
    return _between(weights_a, weights_b, alpha), {
        name: _between(buffer, buffers_b[name], alpha) if buffer.is_floating_point() else buffer
        for name, buffer in buffers_a.items()
    }


def path_errors(
    network: Network,
    program: Program,
    objective: Objective,
    feed: Feed,
    a: Copy,
    b: Copy,
    *,
    points: int = 30,
    batch_norm: BatchNorm = "recompute",
    split: str = "test",
    batches: int = MEASURED_BATCHES,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Errors (fractions) and mean losses (nats) along the line between two copies: float64 [points, seeds] on the host.

    Row i belongs to `alphas(points)[i]`: the first is copy b, the last copy a. `split` is as in `evaluate`.
    `batch_norm` decides what stands between the running statistics of the copies: "recompute" measures them at every
    point, both ends included, with `recompute_batch_norm` over `batches` batches; "interpolate" interpolates them like
    weights. It changes nothing in a network that has no batch norm. Raises `LthError` for another `batch_norm`.
    """
    if batch_norm not in ("recompute", "interpolate"):
        raise LthError(f"unknown batch_norm {batch_norm!r}: choose 'recompute' or 'interpolate'")
    a, b = _on(a, feed.device), _on(b, feed.device)
    errors, losses = [], []
    for alpha in alphas(points).tolist():
        weights, buffers = interpolate(a, b, alpha)
        if batch_norm == "recompute":
            buffers = recompute_batch_norm(network, feed, weights, buffers, batches)
        loss, accuracy = evaluate(program, objective, weights, buffers, feed, split)
        errors.append(1.0 - accuracy)
        losses.append(loss)
    return torch.stack(errors).cpu(), torch.stack(losses).cpu()


def recompute_batch_norm(
    network: Network,
    feed: Feed,
    weights: torch.Tensor,
    buffers: Buffers,
    batches: int = MEASURED_BATCHES,
    batch_size: int = MEASURED_BATCH_SIZE,
) -> dict[str, torch.Tensor]:
    """`buffers` with the statistics of batch norm measured anew for these weights; everything else as it was.

    Running means and variances become the plain means over the first `batches` whole batches of each seed's training
    split, in index order, without augmentation, of the batch's mean and unbiased variance; a split smaller than
    `batch_size` is one batch. Only batch norms run as in training: dropout stays off, as where the statistics are
    used. Norms that keep no running statistics, or are not torch's own, are left alone.
    """
    renewed = {name: buffer.clone() for name, buffer in buffers.items()}
    views = network.layout.views(weights)
    size = min(batch_size, feed.train.shape[1])
    with torch.no_grad(), _measuring(network.module) as norms:
        if not norms:
            return renewed
        for norm in norms:
            renewed[f"{norm}running_mean"].zero_()
            renewed[f"{norm}running_var"].fill_(1)
            renewed[f"{norm}num_batches_tracked"].zero_()
        for batch in range(min(batches, feed.train.shape[1] // size)):
            chosen = feed.train[:, batch * size : (batch + 1) * size]
            images, _ = feed.batch(chosen)
            for row in range(len(feed.seeds)):
                # Views of the seed's row: running statistics are updated in place.
                row_of = {name: tensor[row] for name, tensor in [*views.items(), *renewed.items()]}
                call(network.module, row_of, images[row])
    return renewed


def connectivity_rows(
    errors: torch.Tensor,
    losses: torch.Tensor,
    experiment_id: str,
    unit: Unit,
    *,
    step: int,
    copies: tuple[int, int],
    split: str,
    batch_norm: BatchNorm,
    diverged: torch.Tensor | None = None,
) -> pa.Table:
    """The rows of CONNECTIVITY, one per seed of `unit`, from what `path_errors` gives: [points, seeds] each.

    `step` is the one from which both copies were trained and `copies` says which they are: (a, b). Of seeds in
    `diverged` (bool [seeds]), one of whose copies diverged, nothing is told but that.
    """
    if errors.shape != losses.shape or errors.ndim != 2 or errors.shape[1] != len(unit.seeds):
        raise LthError(
            f"errors {list(errors.shape)} and losses {list(losses.shape)} must be [points, seeds] for the "
            f"{len(unit.seeds)} seeds of {unit.name}"
        )
    heights, at = barrier(errors)
    loss_heights = barrier(losses).height.tolist()
    rows = []
    for row, seed in enumerate(unit.seeds):
        lost = diverged is not None and bool(diverged[row])
        rows.append(
            {
                "experiment_id": experiment_id,
                "arm": unit.arm,
                "draw": unit.draw,
                "level": unit.level,
                "seed": seed,
                "step": step,
                "copy_a": copies[0],
                "copy_b": copies[1],
                "split": split,
                "batch_norm": batch_norm,
                "points": len(errors),
                "status": "diverged" if lost else "ok",
                "errors": [] if lost else errors[:, row].tolist(),
                "losses": [] if lost else _finite(losses[:, row].tolist()),
                **(
                    {}
                    if lost
                    else {
                        "barrier": float(heights[row]),
                        "alpha": float(at[row]),
                        "error_a": float(errors[-1, row]),
                        "error_b": float(errors[0, row]),
                        "loss_barrier": _finite([loss_heights[row]])[0],
                    }
                ),
            }
        )
    return pa.Table.from_pylist(rows, schema=CONNECTIVITY)


def _between(a: torch.Tensor, b: torch.Tensor, alpha: float) -> torch.Tensor:
    return (a.double() * alpha + b.double() * (1.0 - alpha)).to(a.dtype)


def _on(copy: Copy, device: torch.device) -> Copy:
    weights, buffers = copy
    return weights.to(device), {name: buffer.to(device) for name, buffer in buffers.items()}


@contextmanager
def _measuring(module: nn.Module) -> Iterator[list[str]]:
    """Within it batch norms average their batches plainly, everything else evaluates; gives their buffers' prefixes."""
    norms = {
        f"{name}." if name else "": layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None
    }
    momenta = {name: layer.momentum for name, layer in norms.items()}
    was_training = module.training
    module.eval()
    for layer in norms.values():
        layer.train()
        layer.momentum = None  # torch then takes the mean over all batches since the reset
    try:
        yield [name for name, layer in norms.items() if layer.training]  # others stay in evaluation mode in training
    finally:
        for name, layer in norms.items():
            layer.momentum = momenta[name]
        module.train(was_training)


def _finite(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
