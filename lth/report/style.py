"""How figures look: arms by colour, marker and line, levels by shade, one frame for all; readable in grey."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from lth.analysis.summary import ordered_arms

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 6.4, 4.6  # inches


class ArmStyle(NamedTuple):
    """How an arm is drawn; marker and line differ as well as colour, to be read in grey and by the colour-blind."""

    colour: str
    marker: str
    line: str | tuple[int, tuple[int, ...]]


_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")

_STYLES = {
    "ticket": ArmStyle("#0072B2", "o", "-"),
    "reinit": ArmStyle("#D55E00", "s", "--"),
    "random_mask": ArmStyle("#009E73", "^", "-."),
    "shuffled_mask": ArmStyle("#CC79A7", "D", ":"),
}
SPARE = (
    ArmStyle("#E69F00", "v", (0, (5, 1))),
    ArmStyle("#56B4E9", "P", (0, (3, 1, 1, 1))),
    ArmStyle("#000000", "X", (0, (1, 1))),
    ArmStyle("#0072B2", "<", (0, (8, 2))),
    ArmStyle("#D55E00", ">", (0, (3, 1, 1, 1, 1, 1))),
    ArmStyle("#009E73", "h", (0, (2, 2))),
    ArmStyle("#CC79A7", "*", "-"),
)
"""Colours of Okabe & Ito (2008) without their yellow, which is too pale on white."""


def arm_styles(arms: Iterable[str]) -> dict[str, ArmStyle]:
    """The style of each arm, the ticket first: fixed for the arms named above; others take spare ones in name order."""
    ordered = ordered_arms(arms)
    others = [arm for arm in ordered if arm not in _STYLES]
    spare = {arm: SPARE[place % len(SPARE)] for place, arm in enumerate(others)}
    return {arm: _STYLES.get(arm) or spare[arm] for arm in ordered}


def arm_label(arm: str) -> str:
    """How an arm is called: the arm `dense` is the dense network of the same budget, not the one of level 0."""
    return {"dense": "dense, same budget"}.get(arm, arm)


def shades(count: int) -> list[tuple[float, ...]]:
    """Colours for ordered things, from dark to light, that keep their order in grey (matplotlib's viridis)."""
    from matplotlib import colormaps

    return [tuple(colormaps["viridis"](0.85 * place / max(count - 1, 1))) for place in range(count)]


def frame(
    title: str, provenance: str, heights: Sequence[float] = (HEIGHT,), sharex: bool = True
) -> tuple[Figure, list[Axes]]:
    """A titled figure with panels of these heights (inches) above each other, with the line that says what the numbers
    rest on."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)  # inches of white around everything
    figure = Figure(figsize=(WIDTH, sum(heights)), layout=layout, facecolor="white")
    panels = figure.subplots(len(heights), 1, sharex=sharex, squeeze=False, height_ratios=list(heights))
    axes: list[Axes] = list(panels[:, 0])
    provenance = textwrap.fill(provenance, 95)
    axes[0].annotate(
        provenance,
        (0, 1),
        (0, 6),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=8,
        color="#333333",
        linespacing=1.25,
    )
    above = 12 + 11 * (1 + provenance.count("\n"))  # points: the title stands on the lines of the provenance
    axes[0].set_title(textwrap.fill(title, 60), loc="left", pad=above, fontsize=11, fontweight="bold")
    for axis in axes:
        axis.grid(True, axis="y", color="#e6e6e6", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=9)
    return figure, axes


def legend(figure: Figure, axis: Axes) -> None:
    """Below the panels: no place inside is free of data for every experiment."""
    handles, labels = axis.get_legend_handles_labels()
    if not labels:
        return
    columns = max(1, min(len(labels), 76 // (max(map(len, labels)) + 9)))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
        handlelength=3.2,
        columnspacing=1.6,
    )


def plain_log(axis: Axes, which: Literal["x", "y"] = "y") -> None:
    """A log scale with 1, 2 and 5 of each decade as plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    (axis.set_xscale if which == "x" else axis.set_yscale)("log")
    scale = axis.xaxis if which == "x" else axis.yaxis
    scale.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    scale.set_major_formatter(StrMethodFormatter("{x:g}"))
    scale.set_minor_formatter(NullFormatter())


def whole_levels(axis: Axes) -> None:
    """Ticks at whole levels."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def take_literally(figure: Figure) -> None:
    """Draw names as they are: they may hold what matplotlib would read as a formula, and no image format takes control
    characters."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        said = text.get_text()
        if "$" in said and not said.startswith("$\\mathdefault{"):  # numbers on logarithmic axes are formulas
            text.set_parse_math(False)
        if _CONTROL.search(said):
            text.set_text(_CONTROL.sub("\ufffd", said))
