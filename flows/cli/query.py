"""`lth query`: SQL over a store's tables, printed or written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.table import Table
from rich.text import Text

from flows.cli.inspection import say_damaged
from flows.cli.table_formats import FORMATS, encoded, rows_of, text_of
from lth.console import Console, one_line
from lth.errors import InvalidExperiment, LthError

MOST_ROWS = 1000
MOST_BLOCKS = 100
_NARROWEST = 16
"""A column of longer texts may be folded to so many characters."""


def run_query(sql: str, store_url: str, experiment: str | None, form: str, output: Path | None) -> None:
    """Run SQL over a store's tables and print or write the result."""
    import lth.results

    results = lth.results.open(store_url, experiment)
    found = results.query(sql)
    say_damaged(results)
    if form == "table" and output is None:
        print_rows(found, Console(highlight=False))
        return
    if form == "table":
        form = output.suffix.removeprefix(".") if output else ""
        if form not in FORMATS:
            raise InvalidExperiment(f"--output {output} does not tell the format; add --format csv, json or parquet")
    content = encoded(found, form)
    if output is not None:
        try:
            output.write_bytes(content)
        except OSError as error:
            raise LthError(f"cannot write {output}: {error.strerror}; choose another --output") from None
    elif form == "parquet" and sys.stdout.isatty():
        raise InvalidExperiment("Parquet is not for a terminal; add --output FILE or pipe it")
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()


def print_rows(found: pa.Table, console: Console) -> None:
    """A table, or where its columns do not fit side by side, a block for each row."""
    names = [one_line(name) for name in found.column_names]
    rows = [[_cell(value) for value in row] for row in rows_of(found.slice(0, MOST_ROWS))]
    width = 1 + sum(
        3 + min(max(map(len, (name, *texts))), _NARROWEST) for name, *texts in zip(names, *rows, strict=True)
    )
    folded = width > console.width
    if folded:
        rows = rows[:MOST_BLOCKS]
        widest = max(map(len, names))
        if not rows:
            console.print(Text(", ".join(names)))
        for number, row in enumerate(rows, 1):
            console.print(Text(f"─ row {number} ".ljust(min(console.width, 60), "─"), style="dim"))
            for name, text in zip(names, row, strict=True):
                console.print(Text.assemble((name.ljust(widest), "bold"), " ", text), soft_wrap=True)
        console.print(f"{found.num_rows:,} rows of {len(names)} columns, too many to stand side by side", style="dim")
    else:
        table = Table(caption=f"{found.num_rows:,} rows", caption_justify="left")
        for name, field in zip(names, found.schema, strict=True):
            number = (
                pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type)
            )
            table.add_column(Text(name), justify="right" if number else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
    if found.num_rows > len(rows):
        console.print(f"the first {len(rows):,} of {found.num_rows:,} rows; use --format csv for all")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return one_line(text_of(value))
