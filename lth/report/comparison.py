"""Several experiments side by side: their tickets on one axis, and what each may claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from rich import box
from rich.table import Table

from lth.analysis.summary import summarise
from lth.analysis.verdicts import ANYTIME, matches_down_to
from lth.errors import LthError
from lth.report.detail_figures import BARS
from lth.report.score_texts import ScoreText
from lth.report.style import SPARE, arm_styles, frame, legend, plain_log

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def comparison_table(levels: pa.Table, verdicts: Mapping[str, pa.Table], arm: str = "ticket") -> Table:
    """One row per experiment: its dense network, the sparsest level that an arm matches it at, and the deepest level.

    `levels` holds all of them, `verdicts` by experiment id. Experiments may have other data, networks and ladders: what
    is compared is what each may claim of itself. So they may have other scores too: a column then names them, and each
    is written in its own unit.
    """
    rows = {(row["experiment_id"], row["arm"], row["level"]): row for row in summarise(levels).to_pylist()}
    texts = {name: ScoreText.named(row["score"]) for (name, _, _), row in rows.items()}
    several = len(set(texts.values())) > 1
    shown = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        caption_justify="left",
        caption_style="",
        caption=_caption(list(texts.values())) + _looked_at_again(verdicts),
    )
    for name in ("experiment", *(["score"] if several else []), "n", "dense", "matches down to", "deepest"):
        shown.add_column(
            name, justify="left" if name == "experiment" else "right", no_wrap=name != "experiment", overflow="fold"
        )
    for identifier, judged in verdicts.items():
        own = sorted((level, row) for (name, which, level), row in rows.items() if name == identifier and which == arm)
        if not own:
            raise LthError(f"{identifier} has no arm {arm!r}; compare experiments that have it")
        dense, (level, deepest) = rows.get((identifier, "ticket", 0)), own[-1]
        last = matches_down_to(judged, arm) if judged.num_rows else None
        text = texts[identifier]
        claim = (
            "none"
            if last is None
            else f"{100 * last['density']:.3g}%\n{text.difference(last['difference'])} {text.unit}"
        )
        shown.add_row(
            identifier,
            *([text.label] if several else []),
            str(deepest["seeds"]),
            _reached(dense, text),
            claim,
            f"{_reached(deepest, text)}\nat {_percent(deepest['density'])}, level {level}",
        )
    return shown


def comparison_figure(levels: pa.Table, identifiers: Sequence[str], arm: str = "ticket") -> Figure:
    """The test score at early stop against the weights that remain (%, falling to the right), one line per experiment
    with 95% t intervals; the leftmost point is the dense network.

    LthError for experiments of several scores: they have no axis in common.
    """
    summary = summarise(levels)
    scores = sorted(set(summary["score"].to_pylist()))
    if len(scores) > 1:
        raise LthError(
            f"experiments of several scores ({', '.join(scores)}) have no axis in common: draw those of one score, or "
            "leave the figure out"
        )
    text = ScoreText.of(summary)
    counts = sorted({row["seeds"] for row in summary.to_pylist() if row["seeds"]})
    over = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}" if counts else "n = 0"
    figure, (axis,) = frame(f"{arm} of {len(identifiers)} experiments", f"{over} seeds, mean, 95% t interval")
    styles = [
        arm_styles(["ticket"])["ticket"],
        *(style for style in arm_styles(["reinit", "random_mask", "shuffled_mask"]).values()),
        *SPARE,
    ]
    column = "test_score_at_early_stop"
    for place, identifier in enumerate(identifiers):
        rows = summary.filter(pc.equal(summary["experiment_id"], identifier)).to_pylist()
        own = sorted(
            (
                row
                for row in rows
                if row["seeds"]
                and row["density"]
                and (row["arm"] == arm or (row["arm"] == "ticket" and row["level"] == 0))
            ),
            key=lambda row: int(row["level"]),
        )
        if not own:
            raise LthError(f"{identifier} has nothing of arm {arm!r} to draw")
        style = styles[place % len(styles)]
        errors = [
            0 if row[f"{column}_low"] is None else text.scale * (row[f"{column}_mean"] - row[f"{column}_low"])
            for row in own
        ]
        axis.errorbar(
            [100 * row["density"] for row in own],
            [text.scale * row[f"{column}_mean"] for row in own],
            yerr=errors,
            label=identifier,
            color=style.colour,
            marker=style.marker,
            linestyle=style.line,
            **BARS,
        )
    plain_log(axis, "x")
    axis.invert_xaxis()
    axis.set_xlabel("weights remaining (%)")
    axis.set_ylabel(text.axis("test", " at early stop"))
    legend(figure, axis)
    return figure


def _looked_at_again(verdicts: Mapping[str, pa.Table]) -> str:
    """Which experiments are not judged by the test for a fixed n, as text of the caption."""
    names = [identifier for identifier, judged in verdicts.items() if ANYTIME in judged["rule"].to_pylist()]
    if not names:
        return ""
    return f" Seeds were added to {' and '.join(names)}: judged by a test that is valid at every look."


def _percent(density: float | None) -> str:
    return "?" if density is None else f"{100 * density:.3g}%"


def _reached(row: dict[str, Any] | None, text: ScoreText) -> str:
    if row is None or not row["seeds"]:
        return "diverged"
    mean, low = row["test_score_at_early_stop_mean"], row["test_score_at_early_stop_low"]
    return text.value(mean) + ("" if low is None else f" ±{text.value(mean - low, mean)}")


def _caption(texts: Sequence[ScoreText]) -> str:
    """What the numbers are; of several scores, which are in percent and in points."""
    first, labels = texts[0], list(dict.fromkeys(text.label for text in texts))
    if len(labels) == 1:
        what, difference = f"{first.label} at early stop{first.percent}", first.differences.strip(", ")
    else:
        percent = list(dict.fromkeys(text.label for text in texts if text.score.percent))
        note = f" ({' and '.join(percent)} in %, differences in points)" if percent else ""
        what, difference = f"score at early stop{note}", "positive where it is better"
    return (
        f"Test {what}, mean ± half the 95% t interval over n seeds. Matches down to: as in lth verdicts, with the "
        f"difference to dense{f' {difference}' if difference else ''}."
    )
