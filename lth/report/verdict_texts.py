"""Verdicts in words: the claim in one sentence, and the table of an arm's comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from rich import box
from rich.table import Table
from rich.text import Text

from lth.analysis.equivalence import FIRST_LOOK
from lth.analysis.sequential import LATER
from lth.analysis.summary import ordered_arms
from lth.analysis.verdicts import ANYTIME, AT_LEAST, AT_MOST, matches_down_to
from lth.report.caveats import caveats, judged_rows, require_arm, seeds_judged
from lth.report.score_texts import ScoreText
from lth.report.style import arm_label
from lth.report.tables import broken


class Compared(NamedTuple):
    """One comparison of an arm at a level."""

    numbers: str
    """`+0.12 ±0.22`: difference (of accuracies in percentage points) and half its interval."""
    said: str
    """The verdict, or against another arm Holm's p-value."""


class Row(NamedTuple):
    """An arm at a level."""

    level: str
    density: str
    dense: Compared
    speedup: str
    others: list[Compared]


def claim(table: pa.Table, arm: str = "ticket") -> str:
    """What a table of `lth.analysis.verdicts` says of an arm, in one sentence."""
    rows, text = judged_rows(table, arm), ScoreText.of(table)
    margin = f"by more than {text.margin(rows[0]['margin'])}"
    last = matches_down_to(table, arm)
    if last is None:
        first = rows[0]
        why = "is worse" if first["verdict"] == "not matching" else "cannot be called not worse"
        return (
            f"The {arm} {why} than the dense network {margin} at level {first['level']} already "
            f"({_percent(first['density'])} of the weights): {_difference(first, text)}, {seeds_judged(first)}."
        )
    return (
        f"The {arm} is not worse than the dense network {margin} down to {_percent(last['density'])} of the "
        f"weights (level {last['level']} of {rows[-1]['level']}): {_difference(last, text)} {text.unit} there"
        f"{_early_stop(last)}, {seeds_judged(last)}."
    )


def _early_stop(row: dict[str, Any]) -> str:
    """`, and its early stop comes at 1.11 times the step of the dense network [0.76, 1.61]`."""
    if row["speedup"] is None:
        return ""
    bound = {AT_MOST: "at least ", AT_LEAST: "at most ", None: ""}.get(row["speedup_bound"])
    if bound is None:
        return ", and how early it stops cannot be said (both sides were still learning at their last step)"
    ends = ""
    if row["speedup_low"] is not None:
        ends = f" [{1 / row['speedup_high']:.2f}, {1 / row['speedup_low']:.2f}]"
    return f", and its early stop comes at {bound}{1 / row['speedup']:.2f} times the step of the dense network{ends}"


def verdict_table(table: pa.Table, arm: str = "ticket") -> Table:
    """The comparisons of an arm, one row per level, to be printed with rich."""
    others = others_of(table, arm)
    shown = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        caption=caption(table),
        caption_justify="left",
        caption_style="",
        leading=0,
    )
    against = (f"minus\n{broken(arm_label(other))}" for other in others)
    for name in ("level", "weights", "minus\ndense", "speed-\nup", *against):
        shown.add_column(name, justify="right", no_wrap=True)
    colours = {"matching": "green", "not matching": "red"}
    for row in verdict_rows(table, arm, others):
        dense = Text(row.dense.numbers).append(
            f"\n{row.dense.said}", style=colours.get(row.dense.said.partition(",")[0], "yellow")
        )
        cells = [Text(cell.numbers).append(f"\n{cell.said}", style="dim") for cell in row.others]
        shown.add_row(row.level, row.density, dense, row.speedup, *cells)
    return shown


def verdict_markdown(table: pa.Table, arm: str = "ticket", notes: Sequence[str] = ()) -> str:
    """The claim, its caveats after other `notes`, and the table of an arm's comparisons as Markdown."""
    others = others_of(table, arm)
    header = ["level", "weights", "minus dense", "speed-up", *(f"minus {arm_label(other)}" for other in others)]
    lines = [
        f"**{claim(table, arm)}**",
        "",
        *(f"- {each}" for each in (*notes, *caveats(table, arm))),
        "",
        "| " + " | ".join(header) + " |",
        "|" + " ---: |" * len(header),
    ]
    for row in verdict_rows(table, arm, others):
        cells = [f"{cell.numbers}<br>{cell.said}" for cell in row.others]
        dense = f"{row.dense.numbers}<br>{row.dense.said}"
        lines.append("| " + " | ".join([row.level, row.density, dense, row.speedup, *cells]) + " |")
    return "\n".join([*lines, "", caption(table), ""])


def verdict_rows(table: pa.Table, arm: str, others: Sequence[str]) -> list[Row]:
    """The comparisons of an arm, level by level, with the dense network and with `others`."""
    pairs = {
        (row["level"], row["against"]): row
        for row in table.to_pylist()
        if row["arm"] == arm and row["against_level"] > 0
    }
    rows, text = [], ScoreText.of(table)
    for row in judged_rows(table, arm):
        verdict = row["verdict"]
        if row["failed"]:
            verdict += f", {row['failed']} diverged"
        elif verdict == "undecided" and row["n"] > 1:
            verdict += ", >10,000 more" if row["more_seeds"] is None else f", {row['more_seeds']:,} more"
        compared = []
        for other in others:
            pair = pairs.get((row["level"], other))
            compared.append(Compared("", "") if pair is None else Compared(_short(pair, text), _p_value(pair)))
        speedup = _speedup(row)
        rows.append(
            Row(str(row["level"]), _percent(row["density"]), Compared(_short(row, text), verdict), speedup, compared)
        )
    return rows


def others_of(table: pa.Table, arm: str = "ticket") -> list[str]:
    """The arms that an arm is compared with at its own level."""
    require_arm(table, arm)
    return ordered_arms(row["against"] for row in table.to_pylist() if row["arm"] == arm and row["against_level"] > 0)


def _speedup(row: dict[str, Any]) -> str:
    """`1.88×`, with the sign of a bound before it."""
    if row["speedup"] is None:
        return ""
    sign = {None: "", AT_MOST: "≤", AT_LEAST: "≥"}.get(row["speedup_bound"])
    return "?" if sign is None else f"{sign}{row['speedup']:.2f}×"


def _difference(row: dict[str, Any], text: ScoreText) -> str:
    mean, low, high = row["difference"], row["low"], row["high"]
    if mean is None:
        return "no pair"
    if low is None:
        return text.difference(mean)
    return f"{text.difference(mean, low, high)} [{text.value(low, mean, high)}, {text.value(high, mean, low)}]"


def _short(row: dict[str, Any], text: ScoreText) -> str:
    mean, low, high = row["difference"], row["low"], row["high"]
    if mean is None:
        return "no pair"
    if low is None:
        return text.difference(mean)
    return f"{text.difference(mean, (high - low) / 2)} ±{text.half(low, high, mean)}"


def _p_value(row: dict[str, Any]) -> str:
    value = row["p_different_holm"]
    return "" if value is None else "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def caption(table: pa.Table) -> str:
    """What the numbers of the table are."""
    row, text = table.slice(0, 1).to_pylist()[0], ScoreText.of(table)
    confidence = 100 * float((table.schema.metadata or {}).get(b"confidence", b"0.95"))
    margin = "declared" if row["declared"] else "post hoc"
    rules = set(table["rule"].to_pylist())
    interval, test, p = "t interval", f"one-sided t test, {FIRST_LOOK}", "sign-flip test"
    if rules == {ANYTIME}:
        interval, test, p = "confidence sequence", f"e-value above {1 / LATER:g}", "of an e-value"
    elif ANYTIME in rules:
        interval += ", where seeds were added confidence sequence"
        test += f", where seeds were added an e-value above {1 / LATER:g}"
        p += ", or of an e-value"
    return (
        f"Test {text.label} at early stop, differences paired by seed{text.differences} ± half the {confidence:g}% "
        f"{interval}. Matching: not worse by more than {text.margin(row['margin'])} ({margin}; {test}). Speed-up: "
        f"early-stop step of the dense network by its own (≤, ≥: still learning at the last step). p: {p}, Holm over "
        f"levels; below {FIRST_LOOK} it shows a difference."
    )


def _percent(density: float | None) -> str:
    return "?" if density is None else f"{100 * density:.3g}%"
