"""The columns of the tables, with their types, units and meaning, and the check that a table has them."""

from __future__ import annotations

import pyarrow as pa

from lth.errors import StoreError
from lth.store.analysis_schemas import CONNECTIVITY, LAYERS, OVERLAP
from lth.store.columns import ARM, DENSITY, DRAW, EXPERIMENT, LEVEL, SEED, column, schema
from lth.store.origin_columns import NAMES as ORIGIN_NAMES
from lth.store.origin_columns import ORIGIN, with_origin
from lth.store.score_columns import NAME, SCORES_OF, check_scores, is_scored, stored_schema, with_scores

SCORE = column(
    NAME,
    pa.string(),
    "what networks are judged by: accuracy, auroc, r2, or a score of one's own",
)
LOSS_UNIT = "(nats; of another objective than classification, in its own unit)"

LEVELS = schema(
    EXPERIMENT,
    ARM,
    SEED,
    DRAW,
    LEVEL,
    DENSITY,
    column(
        "weights_remaining", pa.int64(), "prunable weights that remain (count); null where density is", nullable=True
    ),
    column("weights_total", pa.int64(), "prunable weights of the dense network (count)"),
    column("parameters", pa.int64(), "parameters that remain, with biases and norms (count)", nullable=True),
    column(
        "flops",
        pa.int64(),
        "multiplications and additions of the forward pass of one example in dense and "
        "convolutional layers, zeros skipped (count)",
        nullable=True,
    ),
    column(
        "latency_seconds",
        pa.float64(),
        "median wall-clock time of the forward pass of 64 examples through the "
        "network without its removed units (seconds), while other units may train beside it; null where single "
        "weights are pruned",
        nullable=True,
    ),
    column("criterion", pa.string(), "what scored the weights that were pruned", nullable=True),
    column("dataset", pa.string(), "the data set's name"),
    column("model", pa.string(), "the network's name"),
    column(
        "steps", pa.int64(), "the last optimizer step (count); training began at the rewinding step, 0 or a later one"
    ),
    column("early_stop_step", pa.int64(), "step of minimum validation loss; null for a diverged seed", nullable=True),
    column("train_accuracy", pa.float64(), "fraction (0-1) of training examples right at the end", nullable=True),
    column("train_loss", pa.float64(), f"mean training loss at the end {LOSS_UNIT}", nullable=True),
    column(
        "val_accuracy_at_early_stop",
        pa.float64(),
        "fraction (0-1) of validation examples right at the early-stop step",
        nullable=True,
    ),
    column(
        "test_accuracy_at_early_stop",
        pa.float64(),
        "fraction (0-1) of test examples right at the early-stop step",
        nullable=True,
    ),
    column("val_accuracy", pa.float64(), "fraction (0-1) of validation examples right at the end", nullable=True),
    column("test_accuracy", pa.float64(), "fraction (0-1) of test examples right at the end", nullable=True),
    column("test_loss", pa.float64(), f"mean test loss at the end {LOSS_UNIT}", nullable=True),
    SCORE,
    column("train_score", pa.float64(), "the score of the training split at the end", nullable=True),
    column(
        "val_score_at_early_stop",
        pa.float64(),
        "the score of the validation split at the early-stop step",
        nullable=True,
    ),
    column(
        "test_score_at_early_stop", pa.float64(), "the score of the test split at the early-stop step", nullable=True
    ),
    column("val_score", pa.float64(), "the score of the validation split at the end", nullable=True),
    column("test_score", pa.float64(), "the score of the test split at the end", nullable=True),
    column("status", pa.string(), "ok, or diverged"),
    column(
        "train_seconds",
        pa.float64(),
        "wall-clock time of this seed's training and evaluations: its block's, "
        "divided by the seeds trained side by side in it (seconds)",
        nullable=True,
    ),
    column(
        "examples_per_second", pa.float64(), "training examples a second by train_seconds (1/second)", nullable=True
    ),
    column("device", pa.string(), "what it was trained on"),
    column("cohort_size", pa.int32(), "seeds trained together (count)"),
    column("threads", pa.int32(), "CPU threads of the training (count)"),
    column("precision", pa.string(), "floating-point precision of the training, e.g. float32"),
    column("mask_sha256", pa.string(), "SHA-256 (hex) of the seed's whole mask", nullable=True),
    column("code_version", pa.string(), "the version of the code that trained it"),
    *ORIGIN,
    column("finished_at", pa.timestamp("us", tz="UTC"), "when the training ended (UTC)"),
)

METRICS = schema(
    EXPERIMENT,
    ARM,
    SEED,
    DRAW,
    LEVEL,
    DENSITY,
    column("step", pa.int64(), "optimizer steps taken when this was measured (count)"),
    column("split", pa.string(), "train, val or test"),
    column("loss", pa.float64(), f"mean loss over the split {LOSS_UNIT}; null where it is not finite", nullable=True),
    column("accuracy", pa.float64(), "fraction (0-1) of the split right", nullable=True),
    SCORE,
    column("score_value", pa.float64(), "the score of the split; null where it has none", nullable=True),
)

MASKS = schema(
    EXPERIMENT,
    ARM,
    SEED,
    DRAW,
    LEVEL,
    column("tensor", pa.string(), "the prunable weight tensor's name"),
    column("shape", pa.list_(pa.int32()), "the tensor's shape (weights along each axis)"),
    column("remaining", pa.int64(), "weights of the tensor that remain (count)"),
    column("total", pa.int64(), "weights of the tensor (count)"),
    column("bits", pa.binary(), "1 = kept: the flattened tensor packed 8 weights a byte, lowest bit first"),
    column("sha256", pa.string(), "SHA-256 (hex) of bits"),
)

UNIT_SCHEMAS = {"levels": LEVELS, "metrics": METRICS, "masks": MASKS}
"""What a unit commits."""

ANALYSIS_SCHEMAS = {"layers": LAYERS, "overlap": OVERLAP, "connectivity": CONNECTIVITY}
"""What analyses make of committed units; it can always be computed again."""

SCHEMAS = {**UNIT_SCHEMAS, **ANALYSIS_SCHEMAS}

ROW_KEYS = {
    "levels": ("arm", "draw", "level", "seed"),
    "metrics": ("arm", "draw", "level", "seed", "step", "split"),
    "masks": ("arm", "draw", "level", "seed", "tensor"),
    "layers": ("arm", "draw", "level", "seed", "tensor"),
    "overlap": ("between", "arm_a", "draw_a", "level_a", "seed_a", "arm_b", "draw_b", "level_b", "seed_b", "tensor"),
    "connectivity": ("arm", "draw", "level", "seed", "step", "copy_a", "copy_b", "split", "batch_norm", "points"),
}
"""What identifies a row within an experiment."""

CIRCUMSTANCES = frozenset(
    {
        "train_seconds",
        "latency_seconds",
        "examples_per_second",
        "device",
        "cohort_size",
        "threads",
        "code_version",
        "finished_at",
        *ORIGIN_NAMES,
    }
)
"""Columns of `levels` that tell how a result was obtained; a repetition may differ in them and nothing else."""

RESULT_COLUMNS = tuple(name for name in LEVELS.names if name not in {*CIRCUMSTANCES, NAME, *SCORES_OF})
"""Columns of `levels` that are results where the score is accuracy; see `result_columns`."""


def result_columns(kind: str, table: pa.Table) -> tuple[str, ...]:
    """The columns of a table of SCHEMAS[kind] by which a repetition must agree with it.

    Where all is scored by accuracy they are those of the time before there were other scores, so that hashes of content
    stay what they were. The score's name is not among them: the experiment's id decides it.
    """
    columns = RESULT_COLUMNS if kind == "levels" else tuple(stored_schema(SCHEMAS[kind], scored=False).names)
    return (*columns, *(name for name in SCORES_OF if name in SCHEMAS[kind].names)) if is_scored(table) else columns


def conform(table: pa.Table, kind: str) -> pa.Table:
    """`table` with exactly the columns, order and types of SCHEMAS[kind]; StoreError names the first column that is
    missing, unknown, of another type, or null where it must not be.

    A table that names no score is one of accuracies.
    """
    schema = SCHEMAS[kind]
    if kind == "levels":
        table = with_origin(table)
    if NAME in schema.names:
        table = with_scores(table)
    for name in schema.names:
        if name not in table.column_names:
            raise StoreError(f"table {kind} lacks its column {name!r}; it needs {', '.join(schema.names)}")
    for name in table.column_names:
        if name not in schema.names or table.column_names.count(name) > 1:
            raise StoreError(f"table {kind} has a column {name!r} too many; it holds {', '.join(schema.names)}")
    columns = []
    for field in schema:
        column = table[field.name]
        if column.null_count and not field.nullable:
            raise StoreError(f"table {kind}: column {field.name!r} is null in {column.null_count} rows and may not be")
        try:
            columns.append(column.cast(field.type))
        except (pa.ArrowException, ValueError) as error:
            raise StoreError(
                f"table {kind}: column {field.name!r} is {column.type} and does not fit {field.type}: "
                f"{str(error).splitlines()[0]}"
            ) from error
    conforming = pa.Table.from_arrays(columns, schema=schema)
    if NAME in schema.names:
        check_scores(conforming, kind)
    return conforming
