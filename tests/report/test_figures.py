from __future__ import annotations

import io
import struct
import subprocess
import sys

import matplotlib
import numpy as np
import pyarrow as pa
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from lth.errors import LthError
from lth.report import arm_styles, early_stop_figure, save_png, score_figure

LADDER = [100 * 0.8**level for level in range(13)]
PLAIN = {"ticket": [0.975, 0.976, 0.978], "reinit": [None, 0.974, 0.972], "random_mask": [None, 0.973, 0.968]}
DEEP = {"ticket": [0.975] * 13, "random_mask": [None, *[0.97] * 10, 0.30, 0.11]}


def bars(axis: Axes) -> dict[str, ErrorbarContainer]:
    return {c.get_label(): c for c in axis.containers if isinstance(c, ErrorbarContainer)}


def dense_line(axis: Axes) -> float:
    (line,) = (line for line in axis.lines if line.get_label() == "dense")
    return line.get_ydata()[0]


def test_lines_hold_the_means_and_bars_the_intervals(sweep) -> None:
    (axis,) = score_figure(sweep(PLAIN)).axes
    drawn = bars(axis)
    assert list(drawn) == ["ticket", "random_mask", "reinit"]
    line, _, (bar,) = drawn["ticket"].lines
    assert line.get_xdata() == pytest.approx([100, 80, 64])
    assert line.get_ydata() == pytest.approx([97.5, 97.6, 97.8])
    # half-width 0.196 points, see conftest
    assert bar.get_segments()[2] == pytest.approx(np.array([[64, 97.8 - 0.1963], [64, 97.8 + 0.1963]]), abs=1e-3)
    assert drawn["reinit"].lines[0].get_xdata() == pytest.approx([80, 64])


def test_axis_is_logarithmic_and_falls_to_the_right(sweep) -> None:
    (axis,) = score_figure(sweep({"ticket": [0.975] * 13})).axes
    left, right = axis.get_xlim()
    assert axis.get_xscale() == "log" and left > 100 and 0 < right < LADDER[-1] and left > right
    # every third of many levels is labelled, as in Frankle & Carbin; the others have a small tick
    assert [label.get_text() for label in axis.get_xticklabels()] == ["100", "51.2", "26.2", "13.4", "6.87"]
    assert sorted([*axis.get_xticks(), *axis.get_xticks(minor=True)], reverse=True) == pytest.approx(LADDER)
    assert axis.get_xlabel() == "weights remaining (%)" and axis.get_ylabel() == "test accuracy at early stop (%)"


def test_dense_baseline_with_its_band(sweep) -> None:
    (axis,) = score_figure(sweep(PLAIN)).axes
    assert dense_line(axis) == pytest.approx(97.5)
    (band,) = (patch for patch in axis.patches if patch.get_height() == pytest.approx(2 * 0.1963, abs=1e-3))
    assert band.get_y() == pytest.approx(97.5 - 0.1963, abs=1e-3)


def test_title_and_legend_say_what_is_shown(sweep) -> None:
    figure = score_figure(sweep(PLAIN, diverged=[("reinit", 2, 4)]))
    (axis,) = figure.axes
    assert axis.get_title(loc="left") == "toy-0123456789"
    (note,) = (text.get_text() for text in axis.texts)
    assert note == "n = 4 to 5 seeds · mean, 95% t interval · 1 training diverged, left out · cpu · code 0.1.0"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["dense", "ticket", "random_mask", "reinit"]


def test_a_collapse_gets_a_second_panel_and_does_not_squash_the_first(sweep) -> None:
    close, whole = score_figure(sweep(DEEP)).axes
    assert close.get_ylim()[0] > 90 and close.get_ylim()[1] < 100
    assert whole.get_ylim()[0] < 11 and whole.get_ylim()[1] > 97.5
    for axis in (close, whole):  # both hold all points; only the view differs
        assert bars(axis)["random_mask"].lines[0].get_ydata()[-2:] == pytest.approx([30, 11])
    assert close.get_xlim() == whole.get_xlim()


def test_ten_points_below_dense_is_where_the_second_panel_begins(sweep) -> None:
    assert len(score_figure(sweep({"ticket": [0.95, 0.86]})).axes) == 1
    assert len(score_figure(sweep({"ticket": [0.95, 0.84]})).axes) == 2


def test_every_interval_is_inside_the_view_when_nothing_collapses(sweep) -> None:
    (axis,) = score_figure(sweep(PLAIN)).axes
    low, high = axis.get_ylim()
    ends = [y for bar in bars(axis).values() for segment in bar.lines[2][0].get_segments() for y in segment[:, 1]]
    assert low < min(ends) and max(ends) < high


def test_early_stop_starts_at_zero_and_holds_the_steps(sweep) -> None:
    (axis,) = early_stop_figure(sweep(PLAIN)).axes
    assert bars(axis)["ticket"].lines[0].get_ydata() == pytest.approx([5000, 4900, 4800])
    assert axis.get_ylim()[0] == 0 and axis.get_ylim()[1] > 5000
    assert dense_line(axis) == 5000


def test_one_seed_has_no_bars_and_says_so(sweep) -> None:
    (axis,) = score_figure(sweep(PLAIN, offsets=[0.0])).axes
    assert axis.texts[0].get_text().startswith("n = 1 seed, no interval")
    segments = bars(axis)["ticket"].lines[2][0].get_segments()
    assert not any(np.isfinite(segment).all() and len(segment) for segment in segments)


@pytest.mark.parametrize("draw", [score_figure, early_stop_figure])
@pytest.mark.parametrize("accuracies", [{"ticket": [0.9]}, {"reinit": [None, 0.9]}, PLAIN, DEEP])
@pytest.mark.parametrize("offsets", [(0.0,), (-0.01, 0.01)])
def test_every_label_lies_within_the_picture_and_none_overlap(sweep, draw, accuracies, offsets) -> None:
    figure = draw(sweep(accuracies, offsets=offsets, experiment="a-rather-long-name-of-an-experiment-0123456789"))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [text for axis in figure.axes for text in
             [axis.title, axis._left_title, axis.xaxis.label, axis.yaxis.label, *axis.texts, *axis.get_xticklabels()]
             if text.get_text() and text.get_visible()]  # fmt: skip
    if len(figure.axes) == 2:  # the shared axis has its labels below the lower panel only
        hidden = set(figure.axes[0].get_xticklabels())
        texts = [text for text in texts if text not in hidden]
    boxes = [text.get_window_extent(renderer) for text in [*texts, *figure.legends[0].get_texts()]]
    width, height = canvas.get_width_height()
    for box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    for place, box in enumerate(boxes):
        assert box.count_overlaps(boxes[place + 1 :]) == 0


def test_png_has_the_signature_the_size_and_repeatable_bytes(sweep, tmp_path) -> None:
    buffers = [io.BytesIO(), io.BytesIO()]
    for buffer in buffers:
        save_png(score_figure(sweep(PLAIN)), buffer)
    data = buffers[0].getvalue()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (960, 690)  # 6.4 x 4.6 inches at 150 dpi
    assert buffers[1].getvalue() == data
    save_png(score_figure(sweep(PLAIN)), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes() == data
    with pytest.raises(LthError, match=r"cannot write the figure to .*nowhere"):
        save_png(Figure(), tmp_path / "nowhere" / "figure.png")


def test_styles_are_fixed_for_known_arms_and_distinct_for_others() -> None:
    names = ["zeta", "reinit", "ticket", "alpha", "random_mask", "shuffled_mask", "beta"]
    styles = arm_styles(names)
    assert styles == arm_styles(reversed(names))
    assert styles["ticket"] == arm_styles(["ticket"])["ticket"]
    for attribute in ("marker", "line"):  # what tells them apart in grey
        assert len({getattr(style, attribute) for style in styles.values()}) == 7
    assert len({style.colour for style in styles.values()}) == 7


def test_nothing_global_is_touched_and_pyplot_stays_unloaded(sweep) -> None:
    before = dict(matplotlib.rcParams)
    score_figure(sweep(PLAIN))
    assert dict(matplotlib.rcParams) == before
    code = "import sys, lth.report; assert not any(name.startswith('matplotlib') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tables_that_cannot_be_drawn_are_refused(sweep) -> None:
    with pytest.raises(LthError, match="2 experiments"):
        score_figure(pa.concat_tables([sweep(PLAIN), sweep(PLAIN, experiment="other-9876543210")]))
    with pytest.raises(LthError, match="no rows"):
        early_stop_figure(sweep(PLAIN).slice(0, 0))
    with pytest.raises(LthError, match="toy-0123456789 diverged"):
        score_figure(sweep({"ticket": [0.9]}, offsets=[0.0], diverged=[("ticket", 0, 0)]))
