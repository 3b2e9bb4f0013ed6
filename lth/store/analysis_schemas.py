"""The columns of the tables that analyses make of tickets, with their types, units and meaning."""

from __future__ import annotations

import pyarrow as pa

from lth.store.columns import ARM, DRAW, EXPERIMENT, LEVEL, SEED, column, schema


def _side(side: str) -> list[pa.Field]:
    """Which mask stands on side "a" or "b" of a comparison."""
    return [
        column(f"arm_{side}", pa.string(), f"the arm of mask {side}"),
        column(f"draw_{side}", pa.int32(), f"0, or which of several draws of that arm mask {side} is"),
        column(f"level_{side}", pa.int32(), f"times that mask {side} was pruned"),
        column(f"seed_{side}", pa.int64(), f"the seed of mask {side}"),
    ]


LAYERS = schema(
    EXPERIMENT,
    ARM,
    SEED,
    DRAW,
    LEVEL,
    column("tensor", pa.string(), "the prunable weight tensor's name"),
    column("remaining", pa.int64(), "weights of the tensor that remain (count)"),
    column("total", pa.int64(), "weights of the tensor (count)"),
    column("density", pa.float64(), "remaining / total (fraction, 0-1)"),
    column(
        "effective",
        pa.int64(),
        "remaining weights on a path of remaining weights from an input to an output "
        "(count); null where paths cannot be told (recurrent layers)",
        nullable=True,
    ),
    column("effective_density", pa.float64(), "effective / total (fraction, 0-1)", nullable=True),
    column("units", pa.int64(), "neurons or filters that the tensor feeds (count)"),
    column("dead_units", pa.int64(), "of those, neurons or filters without an effective weight (count)", nullable=True),
    column(
        "flops",
        pa.int64(),
        "2 x remaining x positions at which the tensor is applied: multiplications and "
        "additions of the forward pass of one example, zeros skipped (count)",
    ),
)

OVERLAP = schema(
    EXPERIMENT,
    column("between", pa.string(), "what the two masks differ in: seeds, arms (or draws of one) or levels"),
    *_side("a"),
    *_side("b"),
    column("tensor", pa.string(), "the prunable weight tensor's name; empty: all of them, the whole network"),
    column("remaining_a", pa.int64(), "weights that mask a keeps (count)"),
    column("remaining_b", pa.int64(), "weights that mask b keeps (count)"),
    column("intersection", pa.int64(), "weights that both keep (count)"),
    column("union", pa.int64(), "weights that at least one keeps (count)"),
    column(
        "jaccard", pa.float64(), "intersection / union (fraction, 0-1); null where both masks are empty", nullable=True
    ),
    column(
        "chance",
        pa.float64(),
        "the Jaccard index expected of independent random masks with the same counts in "
        "every tensor (fraction, 0-1); null where both masks are empty",
        nullable=True,
    ),
)

CONNECTIVITY = schema(
    EXPERIMENT,
    ARM,
    DRAW,
    LEVEL,
    SEED,
    column("step", pa.int64(), "the step from which both copies were trained, each in its own data order (count)"),
    column("copy_a", pa.int32(), "which copy stands at alpha = 1"),
    column("copy_b", pa.int32(), "which copy stands at alpha = 0"),
    column("split", pa.string(), "where errors were measured: train or test"),
    column("batch_norm", pa.string(), "batch-norm statistics between the copies: recompute or interpolate"),
    column("points", pa.int32(), "evenly spaced alphas, 0 and 1 among them (count)"),
    column("status", pa.string(), "ok; or diverged, if a copy did: then nothing else is told"),
    column(
        "barrier",
        pa.float64(),
        "maximum over alpha of the error at alpha x copy a + (1 - alpha) x copy b, less "
        "the mean of both ends (fraction, 0-1)",
    ),
    column("alpha", pa.float64(), "the first alpha at that maximum (0-1)", nullable=True),
    column("error_a", pa.float64(), "error of copy a, the end at alpha = 1 (fraction, 0-1)", nullable=True),
    column("error_b", pa.float64(), "error of copy b, the end at alpha = 0 (fraction, 0-1)", nullable=True),
    column("errors", pa.list_(pa.float64()), "error at every alpha from 0 to 1 (fraction, 0-1)"),
    column("losses", pa.list_(pa.float64()), "mean loss at every alpha (nats); null where it is not finite"),
    column(
        "loss_barrier", pa.float64(), "the barrier of the losses (nats); null where a loss is not finite", nullable=True
    ),
)
