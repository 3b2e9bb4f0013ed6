"""How a column is described, and the columns that several tables share."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = "3"
SCORED_VERSION = "4"
"""Of objects with other scores than accuracy, and the columns for them."""
MASKS_VERSION = "5"
"""Of objects of masks, whose bits are plain where they are called so."""
TRACED_VERSION, TRACED_SCORED_VERSION = "6", "7"
"""Of the same, where they say what they were computed with."""


def column(name: str, kind: pa.DataType, description: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": description})


def schema(*columns: pa.Field) -> pa.Schema:
    return pa.schema(columns, metadata={"schema_version": SCHEMA_VERSION})


EXPERIMENT = column("experiment_id", pa.string(), "the experiment: its name and 10 hex digits of its content")
ARM = column("arm", pa.string(), "what was trained: ticket, or the name of a control")
SEED = column("seed", pa.int64(), "the replicate: decides initialisation, data order, augmentation and split")
DRAW = column("draw", pa.int32(), "0, or which of several draws of this arm for this seed")
LEVEL = column("level", pa.int32(), "times pruned: 0 is the dense network")
DENSITY = column(
    "density",
    pa.float64(),
    "fraction (0-1) of the prunable weights that remain; null for a seed that was lost before it had a mask",
    nullable=True,
)
