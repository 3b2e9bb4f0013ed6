"""Several experiments side by side: their tickets on one axis, and what each may claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from rich import box
from rich.table import Table

from lth.analysis.summary import summarise
from lth.analysis.verdicts import matches_down_to
from lth.errors import LthError
from lth.report.detail_figures import BARS
from lth.report.style import SPARE, arm_styles, frame, legend, plain_log

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def comparison_table(levels: pa.Table, verdicts: Mapping[str, pa.Table], arm: str = "ticket") -> Table:
    """One row per experiment: its dense network, the sparsest level that an arm matches it at, and the deepest level.

    `levels` holds all of them, `verdicts` by experiment id. Experiments may have other data, networks and ladders: what
    is compared is what each may claim of itself.
    """
    shown = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        caption_justify="left",
        caption_style="",
        caption="Test accuracy at early stop in %, mean ± half the 95% t interval over n seeds. Matches down "
        "to: as in lth verdicts, with the difference to dense in points.",
    )
    for name in ("experiment", "n", "dense", "matches down to", "deepest"):
        shown.add_column(
            name, justify="left" if name == "experiment" else "right", no_wrap=name != "experiment", overflow="fold"
        )
    rows = {(row["experiment_id"], row["arm"], row["level"]): row for row in summarise(levels).to_pylist()}
    for identifier, judged in verdicts.items():
        own = sorted((level, row) for (name, which, level), row in rows.items() if name == identifier and which == arm)
        if not own:
            raise LthError(f"{identifier} has no arm {arm!r}; compare experiments that have it")
        dense, (level, deepest) = rows.get((identifier, "ticket", 0)), own[-1]
        last = matches_down_to(judged, arm) if judged.num_rows else None
        claim = "none" if last is None else f"{100 * last['density']:.3g}%\n{100 * last['difference']:+.2f} points"
        shown.add_row(
            identifier,
            str(deepest["seeds"]),
            _accuracy(dense),
            claim,
            f"{_accuracy(deepest)}\nat {_percent(deepest['density'])}, level {level}",
        )
    return shown


def comparison_figure(levels: pa.Table, identifiers: Sequence[str], arm: str = "ticket") -> Figure:
    """Test accuracy at early stop (%) against the weights that remain (%, falling to the right), one line per
    experiment with 95% t intervals; the leftmost point is the dense network."""
    summary = summarise(levels)
    counts = sorted({row["seeds"] for row in summary.to_pylist() if row["seeds"]})
    over = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}" if counts else "n = 0"
    figure, (axis,) = frame(f"{arm} of {len(identifiers)} experiments", f"{over} seeds, mean, 95% t interval")
    styles = [
        arm_styles(["ticket"])["ticket"],
        *(style for style in arm_styles(["reinit", "random_mask", "shuffled_mask"]).values()),
        *SPARE,
    ]
    column = "test_accuracy_at_early_stop"
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
            0 if row[f"{column}_low"] is None else 100 * (row[f"{column}_mean"] - row[f"{column}_low"]) for row in own
        ]
        axis.errorbar(
            [100 * row["density"] for row in own],
            [100 * row[f"{column}_mean"] for row in own],
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
    axis.set_ylabel("test accuracy at early stop (%)")
    legend(figure, axis)
    return figure


def _percent(density: float | None) -> str:
    return "?" if density is None else f"{100 * density:.3g}%"


def _accuracy(row: dict[str, Any] | None) -> str:
    if row is None or not row["seeds"]:
        return "diverged"
    mean, low = row["test_accuracy_at_early_stop_mean"], row["test_accuracy_at_early_stop_low"]
    return f"{100 * mean:.2f}" + ("" if low is None else f" ±{100 * (mean - low):.2f}")
