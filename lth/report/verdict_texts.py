"""Verdicts in words: the claim in one sentence, what it must not hide, and the table of an arm's comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from rich import box
from rich.table import Table
from rich.text import Text

from lth.analysis.equivalence import ALPHA
from lth.analysis.summary import ordered_arms, single_experiment
from lth.analysis.verdicts import matches_down_to
from lth.errors import LthError
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
    _known(table, arm)
    rows, text = _of(table, arm), ScoreText.of(table)
    margin = f"by more than {text.margin(rows[0]['margin'])}"
    last = matches_down_to(table, arm)
    if last is None:
        first = rows[0]
        why = "is worse" if first["verdict"] == "not matching" else "cannot be called not worse"
        return (
            f"The {arm} {why} than the dense network {margin} at level {first['level']} already "
            f"({_percent(first['density'])} of the weights): {_difference(first, text)}, n = {first['n']}."
        )
    speed = ""
    if last["speedup"] is not None:
        speed = f", and its early stop comes {last['speedup']:.2f} times as soon"
        if last["speedup_low"] is not None:
            speed += f" [{last['speedup_low']:.2f}, {last['speedup_high']:.2f}]"
    return (
        f"The {arm} is not worse than the dense network {margin} down to {_percent(last['density'])} of the "
        f"weights (level {last['level']} of {rows[-1]['level']}): {_difference(last, text)} {text.unit} there{speed}, "
        f"n = {last['n']}."
    )


def caveats(table: pa.Table, arm: str = "ticket") -> list[str]:
    """What a reader of the claim must know besides, one sentence each."""
    _known(table, arm)
    rows, last = _of(table, arm), matches_down_to(table, arm)
    sentences = []
    if not rows[0]["declared"]:
        sentences.append(
            f"The margin of {ScoreText.of(table).margin(rows[0]['margin'])} was chosen after the experiment first ran: "
            "these verdicts are post hoc."
        )
    diverged = [row for row in rows if row["diverged"] or row["diverged_against"]]
    if diverged:
        count = sum(row["diverged"] for row in rows)
        sentences.append(
            f"{count} trainings of the {arm} and {rows[0]['diverged_against']} of the dense network diverged; "
            "they are in no mean, so the comparison is of the seeds that survived."
        )
    idle = [row["level"] for row, above in zip(rows, [None, *rows], strict=False) if _as_dense(row, above)]
    if idle:
        sentences.append(
            f"Level {_list(idle)} removed nothing: as many weights are left as at the level above, and what is judged "
            "there is one training against another of the same network."
        )
    after = [row for row in rows if last is None or row["level"] > last["level"]]
    numbers = [row["level"] for row in rows]
    gap = next((level for level in range(1, numbers[-1]) if level not in numbers), None)
    if gap is not None:
        sentences.append(f"Level {gap} is not committed: the claim cannot go past it.")
    if after and after[0]["n"] == 0:
        sentences.append(f"At level {after[0]['level']} no seed finished on both sides.")
    elif after and after[0]["verdict"] == "undecided":
        row = after[0]
        more = (
            "more seeds than 10,000"
            if row["more_seeds"] is None and row["n"] > 1
            else "at least two seeds"
            if row["n"] < 2
            else f"about {row['more_seeds']:,} more seeds"
        )
        sentences.append(f"Level {row['level']} is undecided with n = {row['n']}; it needs {more}.")
    again = [row["level"] for row in after if row["verdict"] == "matching"]
    if again:
        sentences.append(f"Level {_list(again)} would match, but a level above does not: the claim stops before it.")
    if last is not None and last["n"] > 1 and last["low"] == last["high"]:
        sentences.append(
            f"At level {last['level']} all {last['n']} differences are equal: the test set is too small to "
            "tell them apart, and their spread says nothing."
        )
    tests = [row for row in table.to_pylist() if row["arm"] == arm and row["against_level"] > 0]
    for against in dict.fromkeys(row["against"] for row in tests):
        family = [row for row in tests if row["against"] == against]
        seeds = max(row["n"] for row in family)
        smallest = min(1, len(family) * 2 / 2**seeds)
        if seeds and smallest > ALPHA:
            sentences.append(
                f"{seeds} seeds cannot show a difference to {arm_label(against)} over {len(family)} levels by "
                f"the sign-flip test: its smallest p-value is {smallest:.2g} after Holm."
            )
    return sentences


def _as_dense(row: dict[str, Any], above: dict[str, Any] | None) -> bool:
    """Whether a level has the density of the level above it."""
    if above is None:
        return bool(row["level"] == 1 and row["density"] == 1)
    return bool(row["level"] == above["level"] + 1 and row["density"] == above["density"])


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
        dense = Text(row.dense.numbers).append(f"\n{row.dense.said}", style=colours.get(row.dense.said, "yellow"))
        cells = [Text(cell.numbers).append(f"\n{cell.said}", style="dim") for cell in row.others]
        shown.add_row(row.level, row.density, dense, row.speedup, *cells)
    return shown


def verdict_markdown(table: pa.Table, arm: str = "ticket") -> str:
    """The claim, its caveats and the table of an arm's comparisons as Markdown."""
    others = others_of(table, arm)
    header = ["level", "weights", "minus dense", "speed-up", *(f"minus {arm_label(other)}" for other in others)]
    lines = [
        f"**{claim(table, arm)}**",
        "",
        *(f"- {each}" for each in caveats(table, arm)),
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
    for row in _of(table, arm):
        verdict = row["verdict"]
        if verdict == "undecided" and row["n"] > 1:
            verdict += ", >10,000 more" if row["more_seeds"] is None else f", {row['more_seeds']:,} more"
        compared = []
        for other in others:
            pair = pairs.get((row["level"], other))
            compared.append(Compared("", "") if pair is None else Compared(_short(pair, text), _p_value(pair)))
        speedup = "" if row["speedup"] is None else f"{row['speedup']:.2f}×"
        rows.append(
            Row(str(row["level"]), _percent(row["density"]), Compared(_short(row, text), verdict), speedup, compared)
        )
    return rows


def _of(table: pa.Table, arm: str) -> list[dict[str, Any]]:
    """The rows of an arm against the dense network, by level; LthError if there are none."""
    rows = [row for row in table.to_pylist() if row["arm"] == arm and row["against_level"] == 0]
    if not rows:
        raise LthError(
            "the dense network (level 0) is not committed: there is nothing to compare with; run the sweep on"
        )
    return sorted(rows, key=lambda row: int(row["level"]))


def _known(table: pa.Table, arm: str) -> None:
    arms = ordered_arms(table["arm"].to_pylist())
    if not arms:
        raise LthError("there is nothing to judge: no level above 0 is committed; run the sweep on")
    if arm not in arms:
        raise LthError(f"arm {arm!r} has no verdict; there is {', '.join(arms)}")
    single_experiment(table)


def others_of(table: pa.Table, arm: str = "ticket") -> list[str]:
    """The arms that an arm is compared with at its own level."""
    _known(table, arm)
    return ordered_arms(row["against"] for row in table.to_pylist() if row["arm"] == arm and row["against_level"] > 0)


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
    return (
        f"Test {text.label} at early stop, differences paired by seed{text.differences} ± half the {confidence:g}% t "
        f"interval. Matching: not worse by more than {text.margin(row['margin'])} ({margin}; one-sided t test, "
        f"{ALPHA}). Speed-up: early-stop step of the dense network by its own. p: sign-flip test, Holm over levels."
    )


def _percent(density: float | None) -> str:
    return "?" if density is None else f"{100 * density:.3g}%"


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
