"""What a training was computed with: the columns that later objects of `levels` have and earlier ones lack.

They tell how a result was obtained and are no part of it. Readers always see them; null where nothing was recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from lth.store.columns import column

ORIGIN = (
    column(
        "instructions",
        pa.string(),
        "vector instructions of the CPU that torch used, e.g. AVX2; null where it was not recorded",
        nullable=True,
    ),
    column("torch", pa.string(), "the version of torch; null where it was not recorded", nullable=True),
    column(
        "engine",
        pa.string(),
        "the engine's version: results of another may differ in their bits; null where it was not recorded",
        nullable=True,
    ),
)
NAMES = tuple(field.name for field in ORIGIN)

KIND_COLUMNS = ("device", "threads", *NAMES)
"""What kinds of computing are told apart by."""

_WORDS = {
    "instructions": "instructions {}",
    "threads": "threads {}",
    "torch": "torch {}",
    "engine": "engine {}",
    "device": "device {}",
    "code_version": "code {}",
}


def with_origin(table: pa.Table) -> pa.Table:
    """A table of `levels` with the columns, null where it has none."""
    for field in ORIGIN:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table


def tells_origin(table: pa.Table) -> bool:
    """Whether any of its rows says something in one of the columns."""
    return any(name in table.column_names and table[name].null_count < table.num_rows for name in NAMES)


def without_origin(schema: pa.Schema) -> pa.Schema:
    """The columns of the time before."""
    return pa.schema([field for field in schema if field.name not in NAMES], metadata=schema.metadata)


def differing_origins(one: pa.Table, other: pa.Table) -> list[tuple[str, str]]:
    """What two units of `levels` say differently of what they were computed with, as words of the one and the other."""
    found = []
    for name, words in _WORDS.items():
        said = [sorted({str(value or "not recorded") for value in table[name].to_pylist()}) for table in (one, other)]
        if said[0] != said[1]:
            found.append((words.format(", ".join(said[0])), words.format(", ".join(said[1]))))
    return found


def kinds_line(levels: pa.Table) -> str | None:
    """One line if rows of `levels` were not all computed alike, with the number of trainings of each kind; else None.

    A kind is the CPU's instructions (where a CPU trained), threads, torch and engine: the last bits depend on them.
    """
    counts = Counter(map(kind_of, levels.select(KIND_COLUMNS).to_pylist()))
    if len(counts) < 2:
        return None
    said = "; ".join(f"{count:,} with {kind}" for kind, count in counts.most_common())
    return f"trainings were not all computed alike, and may differ in their last bits: {said}"


def kind_of(row: Mapping[str, Any]) -> str:
    """What a row of `levels` was computed with, in words."""
    threads = f"{row['threads']} thread{'s' * (row['threads'] != 1)}"
    torch = "torch and engine not recorded" if row["torch"] is None else f"torch {row['torch']}, engine {row['engine']}"
    if not str(row["device"]).startswith("cpu"):
        return f"{row['device']}, {torch}"
    return f"{row['instructions'] or 'instructions not recorded'}, {threads}, {torch}"
