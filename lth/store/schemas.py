"""The columns of the three tables, with their types, units and meaning, and the check that a table has them."""

from __future__ import annotations

import pyarrow as pa

from lth.errors import StoreError

SCHEMA_VERSION = "1"


def _column(name: str, kind: pa.DataType, description: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": description})


def _schema(*columns: pa.Field) -> pa.Schema:
    return pa.schema(columns, metadata={"schema_version": SCHEMA_VERSION})


_EXPERIMENT = _column("experiment_id", pa.string(), "the experiment: its name and 10 hex digits of its content")
_ARM = _column("arm", pa.string(), "what was trained: ticket, or the name of a control")
_SEED = _column("seed", pa.int64(), "the replicate: decides initialisation, data order, augmentation and split")
_DRAW = _column("draw", pa.int32(), "0, or which of several draws of this arm for this seed")
_LEVEL = _column("level", pa.int32(), "times pruned: 0 is the dense network")
_DENSITY = _column("density", pa.float64(), "fraction (0-1) of the prunable weights that remain")

LEVELS = _schema(
    _EXPERIMENT, _ARM, _SEED, _DRAW, _LEVEL, _DENSITY,
    _column("weights_remaining", pa.int64(), "prunable weights that remain (count)"),
    _column("weights_total", pa.int64(), "prunable weights of the dense network (count)"),
    _column("criterion", pa.string(), "what scored the weights that were pruned", nullable=True),
    _column("dataset", pa.string(), "the data set's name"),
    _column("model", pa.string(), "the network's name"),
    _column("steps", pa.int64(), "optimizer steps trained (count)"),
    _column("early_stop_step", pa.int64(), "step of minimum validation loss; null for a diverged seed", nullable=True),
    _column("train_accuracy", pa.float64(), "fraction (0-1) of training examples right at the end", nullable=True),
    _column("train_loss", pa.float64(), "mean training loss at the end (nats)", nullable=True),
    _column("val_accuracy_at_early_stop", pa.float64(), "fraction (0-1) of validation examples right at the early-stop "
            "step", nullable=True),
    _column("test_accuracy_at_early_stop", pa.float64(), "fraction (0-1) of test examples right at the early-stop step",
            nullable=True),
    _column("val_accuracy", pa.float64(), "fraction (0-1) of validation examples right at the end", nullable=True),
    _column("test_accuracy", pa.float64(), "fraction (0-1) of test examples right at the end", nullable=True),
    _column("test_loss", pa.float64(), "mean test loss at the end (nats)", nullable=True),
    _column("status", pa.string(), "ok, or diverged"),
    _column("train_seconds", pa.float64(), "wall-clock time of this seed's training and evaluations: its block's, "
            "divided by the seeds trained side by side in it (seconds)", nullable=True),
    _column("examples_per_second", pa.float64(), "training examples a second by train_seconds (1/second)",
            nullable=True),
    _column("device", pa.string(), "what it was trained on"),
    _column("cohort_size", pa.int32(), "seeds trained together (count)"),
    _column("threads", pa.int32(), "CPU threads of the training (count)"),
    _column("precision", pa.string(), "floating-point precision of the training, e.g. float32"),
    _column("mask_sha256", pa.string(), "SHA-256 (hex) of the seed's whole mask", nullable=True),
    _column("code_version", pa.string(), "the version of the code that trained it"),
    _column("finished_at", pa.timestamp("us", tz="UTC"), "when the training ended (UTC)"),
)

METRICS = _schema(
    _EXPERIMENT, _ARM, _SEED, _DRAW, _LEVEL, _DENSITY,
    _column("step", pa.int64(), "optimizer steps taken when this was measured (count)"),
    _column("split", pa.string(), "train, val or test"),
    _column("loss", pa.float64(), "mean loss over the split (nats); null where it is not finite", nullable=True),
    _column("accuracy", pa.float64(), "fraction (0-1) of the split right", nullable=True),
)

MASKS = _schema(
    _EXPERIMENT, _ARM, _SEED, _DRAW, _LEVEL,
    _column("tensor", pa.string(), "the prunable weight tensor's name"),
    _column("shape", pa.list_(pa.int32()), "the tensor's shape (weights along each axis)"),
    _column("remaining", pa.int64(), "weights of the tensor that remain (count)"),
    _column("total", pa.int64(), "weights of the tensor (count)"),
    _column("bits", pa.binary(), "1 = kept: the flattened tensor packed 8 weights a byte, lowest bit first"),
    _column("sha256", pa.string(), "SHA-256 (hex) of bits"),
)

SCHEMAS = {"levels": LEVELS, "metrics": METRICS, "masks": MASKS}

ROW_KEYS = {
    "levels": ("arm", "draw", "level", "seed"),
    "metrics": ("arm", "draw", "level", "seed", "step", "split"),
    "masks": ("arm", "draw", "level", "seed", "tensor"),
}
"""What identifies a row within an experiment."""

CIRCUMSTANCES = frozenset({"train_seconds", "examples_per_second", "device", "cohort_size", "threads", "code_version",
                           "finished_at"})
"""Columns of `levels` that tell how a result was obtained; a repetition may differ in them and nothing else."""

RESULT_COLUMNS = tuple(name for name in LEVELS.names if name not in CIRCUMSTANCES)


def conform(table: pa.Table, kind: str) -> pa.Table:
    """`table` with exactly the columns, order and types of SCHEMAS[kind]; StoreError names the first column that is
    missing, unknown, of another type, or null where it must not be."""
    schema = SCHEMAS[kind]
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
            raise StoreError(f"table {kind}: column {field.name!r} is {column.type} and does not fit {field.type}: "
                             f"{str(error).splitlines()[0]}") from error
    return pa.Table.from_arrays(columns, schema=schema)
