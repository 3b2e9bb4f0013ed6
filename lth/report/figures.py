"""Figures of a sweep: the score and the early-stop step against the weights that remain.

Drawn with matplotlib's objects, not through pyplot, so that nothing global is read or changed and a figure can be made
in any thread. All functions take the `levels` table of one experiment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lth.analysis.summary import ordered_arms, single_experiment, summarise
from lth.errors import LthError
from lth.report.score_texts import ScoreText
from lth.report.style import HEIGHT, arm_label, arm_styles, frame, legend, take_literally

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150
_OVERVIEW_HEIGHT = 1.5  # inches
_COLLAPSE = 0.10
"""A score this much worse than the reference splits the figure into a close view and the whole range."""
_CLOSE = 0.05
"""The close view shows every mean that is worse than the reference by no more than this.

Both are fractions: of a percentage as they are, of another score by the size of the reference.
"""
_DENSE = "#555555"

Row = dict[str, Any]


def score_figure(levels: pa.Table) -> Figure:
    """Test score at early stop against percent of weights remaining, one line per arm, 95% t intervals.

    As in Frankle & Carbin (2019, figure 3) the x axis is logarithmic and falls to the right. The dense network (the
    ticket at level 0) is a horizontal line with its interval as a band. Differences that matter are tenths of a
    point, while a control that collapses falls by tens: cutting it off would hide the collapse and one linear axis
    would hide the differences. So where a mean is more than 10 points (of a score that is no percentage a tenth of
    dense) worse than dense, the close view gets a second, smaller panel beneath it that shows the whole range; nothing
    is left out. Raises `LthError` for a table of no or
    of several experiments, or one in which every training diverged.
    """
    rows, title, provenance = _contents(levels)
    text = ScoreText.of(levels)
    sign, scale = text.sign, text.scale
    column = "test_score_at_early_stop"
    means = [row[f"{column}_mean"] for row in rows]
    dense = [row[f"{column}_mean"] for row in rows if row["arm"] == "ticket" and row["level"] == 0]
    reference = dense[0] if dense else max(means, key=lambda mean: sign * mean)
    whole = 1.0 if text.score.percent else abs(reference)
    least = 1.0 if text.score.percent else max(0.01 * whole, 1e-9)  # of the axis
    collapsed = min(sign * mean for mean in means) < sign * reference - _COLLAPSE * whole

    figure, axes = _panels(rows, title, provenance, overview=collapsed)
    for axis in axes:
        _draw(axis, rows, column, scale=scale)
    axes[0].set_ylabel(text.axis("test", " at early stop"))
    close = [row for row in rows if not collapsed or sign * row[f"{column}_mean"] >= sign * reference - _CLOSE * whole]
    axes[0].set_ylim(*_limits(close, column, scale=scale, least=least))
    if collapsed:
        axes[1].set_ylim(*_limits(rows, column, scale=scale, least=least))
        axes[1].set_ylabel("whole range (%)" if text.score.percent else "whole range")
    legend(figure, axes[0])
    return figure


def early_stop_figure(levels: pa.Table) -> Figure:
    """Early-stop step (iteration of minimum validation loss) against percent of weights remaining.

    Axes and marks as in `score_figure`; the y axis starts at 0, so that a ratio of heights is a ratio of times.
    """
    rows, title, provenance = _contents(levels)
    figure, (axis,) = _panels(rows, title, provenance, overview=False)
    _draw(axis, rows, "early_stop_step", scale=1)
    axis.set_ylabel("early-stop step (iterations)")
    axis.set_ylim(0, max(1.0, 1.05 * max(_values(row, "early_stop_step", 1)[2] for row in rows)))
    axis.yaxis.set_major_formatter("{x:,.0f}")
    legend(figure, axis)
    return figure


def save_png(figure: Figure, target: str | PathLike[str] | IO[bytes]) -> None:
    """Write `figure` as PNG at 150 dots per inch to a path or a binary buffer; equal figures give equal bytes.

    Raises `LthError` if the path cannot be written.
    """
    take_literally(figure)
    try:
        # Without matplotlib's version in the metadata the bytes depend on the picture only.
        figure.savefig(target, format="png", dpi=DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
    except OSError as error:
        raise LthError(f"cannot write the figure to {target}: {error.strerror or error}; choose another path") from None


def save_figure(figure: Figure, file: Path) -> None:
    """Write `figure` for print as its suffix says: .pdf (with its fonts), .svg or .png; equal figures, equal bytes.

    Makes the folder. Raises `LthError` if the file cannot be written.
    """
    import matplotlib

    undated: dict[str, dict[str, None]] = {
        ".pdf": {"CreationDate": None},
        ".svg": {"Date": None},
        ".png": {"Software": None},
    }
    take_literally(figure)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": file.stem}):
            figure.savefig(file, dpi=DOTS_PER_INCH, facecolor="white", metadata=undated[file.suffix])
    except OSError as error:
        raise LthError(f"cannot write the figure to {file}: {error.strerror or error}; choose another path") from None


def _contents(levels: pa.Table) -> tuple[list[Row], str, str]:
    """Summary rows that have a mean, the experiment's id, and the line that says what the numbers rest on."""
    title = single_experiment(levels)
    summary: list[Row] = summarise(levels).to_pylist()
    rows = [row for row in summary if row["seeds"]]
    if not rows:
        raise LthError(f"every training of {title} diverged: there is nothing to draw; lower its learning rate")
    of_level = {row["level"]: row["density"] for row in rows if row["arm"] == "ticket"}
    for row in rows:  # an unpruned control of a level stands where its ticket does
        row["density"] = of_level.get(row["level"], row["density"])
        if not row["density"]:
            raise LthError(
                f"arm {row['arm']!r} has density {row['density']} at level {row['level']}, which has no "
                "place on a logarithmic axis: leave that level out"
            )
    return rows, title, _provenance(levels, rows, diverged=sum(row["diverged"] for row in summary))


def _panels(rows: Sequence[Row], title: str, provenance: str, *, overview: bool) -> tuple[Figure, list[Axes]]:
    """A titled figure with one panel, or with a smaller one beneath it; x axes set up."""
    figure, axes = frame(title, provenance, [HEIGHT, _OVERVIEW_HEIGHT] if overview else [HEIGHT])
    ladder = {100 * row["density"] for row in rows if row["arm"] == ordered_arms(row["arm"] for row in rows)[0]}
    _density_axis(axes, sorted(ladder, reverse=True), [100 * row["density"] for row in rows])
    return figure, axes


def _provenance(levels: pa.Table, rows: Sequence[Row], diverged: int) -> str:
    """What the numbers rest on: n, the interval, what diverged, device and code version."""
    counts = sorted({row["seeds"] for row in rows})
    if counts == [1]:
        parts = ["n = 1 seed, no interval"]
    else:
        spread = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
        parts = [f"n = {spread} seeds", "mean, 95% t interval"]
    if diverged:
        parts.append(f"{diverged} training{'s' * (diverged > 1)} diverged, left out")
    for column, label in (("device", ""), ("code_version", "code ")):
        if column in levels.column_names:
            names = sorted(pc.unique(levels[column]).drop_null().to_pylist())
            if names:
                parts.append(label + (", ".join(names) if len(names) <= 2 else f"{len(names)} {column}s"))
    return " · ".join(parts)


def _density_axis(axes: Sequence[Axes], ladder: Sequence[float], percents: Sequence[float]) -> None:
    """A logarithmic axis of percent that falls to the right, with a small tick at every level of `ladder`."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter

    high, low = max(percents), min(percents)
    margin = (high / low) ** 0.04 if high > low else 2.0
    labelled = _labelled(ladder)
    for axis in axes:
        axis.set_xscale("log")
        axis.set_xlim(high * margin, low / margin)
        axis.xaxis.set_major_locator(FixedLocator(labelled))
        axis.xaxis.set_major_formatter(FixedFormatter([f"{percent:.3g}" for percent in labelled]))
        axis.xaxis.set_minor_locator(FixedLocator([percent for percent in ladder if percent not in labelled]))
        axis.xaxis.set_minor_formatter(NullFormatter())
    axes[-1].set_xlabel("weights remaining (%)")


def _labelled(ladder: Sequence[float]) -> list[float]:
    """The ticks that get a label: every level, or every third (100, 51.3, 26.3, … at 20% a round), sixth, … of many."""
    stride = 1 if len(ladder) <= 7 else 3 * math.ceil(len(ladder) / 27)
    span = math.log(ladder[0] / ladder[-1])
    chosen: list[float] = []
    for percent in ladder[::stride]:
        # Levels need not be evenly spaced; labels closer than a twelfth of the axis would touch.
        if not chosen or math.log(chosen[-1] / percent) >= span / 12:
            chosen.append(percent)
    return chosen


def _draw(axis: Axes, rows: Sequence[Row], column: str, *, scale: float) -> None:
    """The dense band, then one line with error bars per arm; values times `scale`.

    The arms of a level share its density, where their bars would hide each other. So every arm but the first is drawn
    a few points to the side: a shift of the drawing, not of the data, which stay at the exact density.
    """
    from matplotlib.transforms import ScaledTranslation

    for row in rows:
        if row["arm"] == "ticket" and row["level"] == 0:
            mean, low, high = _values(row, column, scale)
            axis.axhspan(low, high, color=_DENSE, alpha=0.13, linewidth=0)
            axis.axhline(mean, color=_DENSE, linewidth=1.0, label="dense")
    styles = arm_styles(row["arm"] for row in rows)
    step = min(3.0, 8.0 / len(styles)) / 72  # inches
    for place, (arm, style) in enumerate(styles.items()):
        shift = step * ((place + 1) // 2) * (-1) ** (place + 1)  # 0, 1, -1, 2, -2, …
        beside = axis.transData + ScaledTranslation(shift, 0, axis.figure.dpi_scale_trans)
        of_arm = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["level"])
        means, lows, highs = np.array([_values(row, column, scale) for row in of_arm]).T
        errors = np.array([means - lows, highs - means])
        errors[:, [row[f"{column}_low"] is None for row in of_arm]] = math.nan  # one seed: no bar rather than a cap
        axis.errorbar(
            [100 * row["density"] for row in of_arm],
            means,
            yerr=errors,
            label=arm_label(arm),
            color=style.colour,
            marker=style.marker,
            linestyle=style.line,
            markersize=5,
            linewidth=1.4,
            elinewidth=0.9,
            capsize=2.5,
            markeredgecolor="white",
            markeredgewidth=0.5,
            transform=beside,
        )


def _values(row: Row, column: str, scale: float) -> tuple[float, float, float]:
    """Mean, low and high; a mean without an interval is its own ends."""
    mean = row[f"{column}_mean"]
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    return scale * mean, scale * (mean if low is None else low), scale * (mean if high is None else high)


def _limits(rows: Sequence[Row], column: str, *, scale: float, least: float) -> tuple[float, float]:
    """Limits that hold the intervals of `rows` with a margin of 5%, at least `least` apart."""
    ends = [end for row in rows for end in _values(row, column, scale)[1:]]
    low, high = min(ends), max(ends)
    if high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
    margin = 0.05 * (high - low)
    return low - margin, high + margin
