"""The result of a sweep as a table: levels down, arms across, for the terminal and for Markdown.

Both show the same cells. The best arm of a level is bold and starred: where a terminal's output goes to a file, only
the star is left.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa
from rich import box
from rich.table import Table
from rich.text import Text

from lth.analysis.summary import ordered_arms, require_columns, single_experiment
from lth.report.score_texts import ScoreText

_HEADER_WIDTH = 13
"""Characters; a longer arm name is broken at its underscores, so that four arms fit into 80 columns."""


class Cell(NamedTuple):
    """One arm at one level."""

    reached: str
    """`98.12 ±0.30`: the score and half the width of the interval; without ± for one seed; empty if never trained."""
    detail: str
    """`@5,000`: mean early-stop step, and n where it is not the same everywhere."""
    best: bool
    """Whether its mean is the best of at least two arms of the level."""


class Level(NamedTuple):
    """One row."""

    level: int
    density: str
    weights: str
    cells: list[Cell]


def summary_table(summary: pa.Table) -> Table:
    """The table of `lth.analysis.summarise` for one experiment, to be printed with rich; 80 columns hold four arms.

    One row per level, the dense network first: percent and number of weights remaining, then for each arm the test
    score at early stop (accuracy: in percent) ± half its interval, and beneath it the early-stop step. The caption says
    what the numbers are, n where it is equal everywhere, and how many trainings diverged. Raises `LthError` for a table
    of no or of several experiments.
    """
    title, arms, levels, caption = _contents(summary)
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0),
                  caption_justify="left", title_justify="left", caption_style="", leading=0)  # fmt: skip
    table.add_column("level", justify="right")
    table.add_column("weights", justify="right", no_wrap=True)
    for arm in arms:
        table.add_column(Text(broken(arm)), justify="right", no_wrap=True)
    for row in levels:
        cells = []
        for cell in row.cells:
            text = Text(cell.reached + ("*" if cell.best else " "), style="bold" if cell.best else "")
            cells.append(text.append(f"\n{cell.detail} ", style="not bold dim"))
        remaining = Text(f"{row.density}%").append(f"\n{row.weights}", style="dim")
        table.add_row(Text(str(row.level)), remaining, *cells)
    return table


def markdown_table(summary: pa.Table) -> str:
    """The content of `summary_table` as a Markdown heading, table and caption; the best arm of a level is bold."""
    title, arms, levels, caption = _contents(summary)
    header = ["level", "density", "weights", *arms]
    lines = [f"### {title}", "", _line(header), _line(["---:"] * len(header))]
    for row in levels:
        cells = []
        for cell in row.cells:
            reached = f"**{cell.reached}**\\*" if cell.best else cell.reached
            cells.append(f"{reached}<br>{cell.detail}" if cell.reached else "")
        lines.append(_line([str(row.level), f"{row.density}%", row.weights, *cells]))
    return "\n".join([*lines, "", caption.replace("*", "\\*"), ""])


def table_cells(summary: pa.Table) -> tuple[list[str], list[list[tuple[str, str, bool]]], str]:
    """The content of `summary_table`: header, rows of (text, smaller text, whether best of its level), caption."""
    _, arms, levels, caption = _contents(summary)
    rows = [
        [
            (str(row.level), "", False),
            (f"{row.density}%", row.weights, False),
            *((cell.reached, cell.detail, cell.best) for cell in row.cells),
        ]
        for row in levels
    ]
    return ["level", "weights", *arms], rows, caption.replace("*: best mean", "bold: best mean")


def _contents(summary: pa.Table) -> tuple[str, list[str], list[Level], str]:
    """Title, arms, rows and caption."""
    title = single_experiment(summary)
    require_columns(summary, ["level", "arm", "density", "weights_remaining", "seeds", "diverged"])
    rows: dict[tuple[int, str], dict[str, Any]] = {(row["level"], row["arm"]): row for row in summary.to_pylist()}
    arms = ordered_arms(arm for _, arm in rows)
    text = ScoreText.of(summary)
    counts = sorted({row["seeds"] for row in rows.values()})
    levels = []
    for level in sorted({level for level, _ in rows}):
        present = {arm: rows[level, arm] for arm in arms if (level, arm) in rows}
        first = next(iter(present.values()))  # the ticket; its controls have its density
        means = [row["test_score_at_early_stop_mean"] for row in present.values() if row["seeds"]]
        best = max(means, key=lambda mean: text.sign * mean) if len(means) > 1 else None
        cells = [_cell(present.get(arm), text, best, show_n=len(counts) > 1) for arm in arms]
        levels.append(Level(level, _percent(first["density"]), _number(first["weights_remaining"]), cells))
    return title, arms, levels, _caption(summary, text, counts, sum(row["diverged"] for row in rows.values()))


def _cell(row: dict[str, Any] | None, text: ScoreText, best: float | None, *, show_n: bool) -> Cell:
    if row is None:
        return Cell("", "", best=False)
    if not row["seeds"]:
        return Cell("diverged", "n=0", best=False)
    mean, low, high = (row[f"test_score_at_early_stop_{part}"] for part in ("mean", "low", "high"))
    reached = text.value(mean) + ("" if low is None else f" ±{text.half(low, high, mean)}")
    detail = f"@{row['early_stop_step_mean']:,.0f}" + (f" n={row['seeds']}" if show_n else "")
    return Cell(reached, detail, best=mean == best)


def _caption(summary: pa.Table, text: ScoreText, counts: list[int], diverged: int) -> str:
    confidence = 100 * float((summary.schema.metadata or {}).get(b"confidence", b"0.95"))
    if counts[-1] <= 1:
        numbers = "one seed, no interval"
    else:
        over = f"n = {counts[0]} seeds" if len(counts) == 1 else "n seeds"
        numbers = f"mean ± half the {confidence:g}% t interval over {over}"
    caption = (
        f"Test {text.label} at early stop{text.percent}: {numbers}. @: mean early-stop step. *: best mean of the "
        "level. Level 0: the dense network."
    )
    if diverged:
        caption += f" Diverged and left out: {diverged} training{'s' * (diverged > 1)}."
    return caption


def _percent(density: float | None) -> str:
    return "?" if density is None else f"{100 * density:.3g}"


def _number(weights: float | None) -> str:
    if weights is None:
        return "?"
    return f"{weights:,.0f}" if weights < 1e7 else f"{weights / 1e6:.2f}M"


def broken(arm: str) -> str:
    """`arm` on lines of at most 13 characters where its underscores allow it."""
    lines = [""]
    for word in arm.replace("_", "_\n").split("\n"):
        if lines[-1] and len(lines[-1] + word) > _HEADER_WIDTH:
            lines.append("")
        lines[-1] += word
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
