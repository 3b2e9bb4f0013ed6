"""Figures of what tickets look like and how they learn: curves, layers, pixels, initial values, overlap, cost.

Each takes tables of one experiment, as `lth.results` has them, and raises LthError where they hold nothing to draw.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lth.analysis.intervals import mean_interval
from lth.analysis.summary import ordered_arms, single_experiment, summarise
from lth.errors import LthError
from lth.report.score_texts import ScoreText
from lth.report.style import HEIGHT, arm_label, arm_styles, frame, legend, plain_log, shades, whole_levels
from lth.store.score_columns import ACCURACY, with_scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BARS: dict[str, Any] = {"markersize": 5, "linewidth": 1.4, "elinewidth": 0.9, "capsize": 2.5}
MOST_LEVELS = 7
"""Levels that one figure shows as lines."""


def learning_curves_figure(metrics: pa.Table, levels: pa.Table, arm: str = "ticket") -> Figure:
    """Validation error (%) and loss (nats) against the step, one line per level, means over seeds.

    Where the score is not accuracy, the score takes the place of the error; a loss of numbers is no count of nats.
    At most seven levels, spread evenly, the dense network and the deepest among them; darker is denser. Trainings that
    `levels` call diverged are in no mean.
    """
    title = single_experiment(metrics)
    metrics = with_scores(metrics)
    text = ScoreText.of(metrics)
    errors = text.score.name == ACCURACY
    chosen = metrics.filter(pc.and_(pc.equal(metrics["split"], "val"), pc.equal(metrics["arm"], arm)))
    keys = ["arm", "draw", "level", "seed"]
    fine = levels.filter(pc.equal(levels["status"], "ok")).select(keys)
    chosen = chosen.join(fine, keys, join_type="left semi")
    means = chosen.group_by(["level", "step"], use_threads=False).aggregate(
        [("score_value", "mean"), ("loss", "mean"), ("density", "mean")]
    )
    shown = _spread(sorted(pc.unique(means["level"]).to_pylist()))
    if not shown:
        raise LthError(f"{title} has no validation curves of {arm!r}: nothing is committed, or all diverged")
    counts = sorted({len(pc.unique(chosen.filter(pc.equal(chosen["level"], level))["seed"])) for level in shown})
    over = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    figure, axes = frame(
        f"{title}: learning curves of {arm}",
        f"means over {over} seeds that did not diverge, validation split, which early stop is chosen by",
        [HEIGHT * 0.6, HEIGHT * 0.5],
    )
    for level, shade in zip(shown, shades(len(shown)), strict=True):
        curve = means.filter(pc.equal(means["level"], level)).sort_by("step")
        label = f"{100 * curve['density_mean'][0].as_py():.3g}%"
        scores = curve["score_value_mean"].to_numpy()
        upper = 100 * (1 - scores) if errors else text.scale * scores
        for axis, values, positive in ((axes[0], upper, errors), (axes[1], curve["loss_mean"].to_numpy(), True)):
            shown_values = np.where(values > 0, values, np.nan) if positive else values  # on a logarithmic axis
            axis.plot(curve["step"].to_numpy(), shown_values, color=shade, linewidth=1.4, label=label)
    axes[0].set_ylabel("validation error (%)" if errors else text.axis("validation"))
    axes[1].set_ylabel("validation loss (nats)" if errors else "validation loss")
    if errors:
        plain_log(axes[0])
    plain_log(axes[1])
    axes[1].set_xlabel("optimizer step")
    axes[1].xaxis.set_major_formatter("{x:,.0f}")
    legend(figure, axes[0])
    return figure


def layer_density_figure(layers: pa.Table, arm: str = "ticket") -> Figure:
    """Weights remaining in every tensor (%) against the level, both axes as in the other figures: means over seeds.

    Where weights remain that no path from input to output uses, a thin line shows what is effective.
    """
    title = single_experiment(layers)
    rows = layers.filter(pc.equal(layers["arm"], arm))
    if not rows.num_rows:
        raise LthError(f"{title} has no layers of {arm!r}: nothing is committed")
    names = list(dict.fromkeys(rows["tensor"].to_pylist()))
    means = (
        rows.group_by(["level", "tensor"], use_threads=False)
        .aggregate([("density", "mean"), ("effective_density", "mean")])
        .sort_by("level")
    )
    figure, (axis,) = frame(
        f"{title}: layers of {arm}",
        f"means over n = {len(pc.unique(rows['seed']))} seeds; thin: weights on a path from an input to an output",
    )
    for name, shade, marker in zip(names, shades(len(names)), _markers(len(names)), strict=True):
        of_tensor = means.filter(pc.equal(means["tensor"], name))
        levels = of_tensor["level"].to_numpy()
        density = 100 * of_tensor["density_mean"].to_numpy()
        axis.plot(levels, density, color=shade, marker=marker, markersize=4, linewidth=1.4, label=name)
        effective = np.array(
            [np.nan if value is None else 100 * value for value in of_tensor["effective_density_mean"].to_pylist()]
        )
        if np.any(effective < density - 1e-9):
            axis.plot(levels, np.where(effective > 0, effective, np.nan), color=shade, linewidth=0.7)
    plain_log(axis)
    axis.set_ylabel("weights remaining in the tensor (%)")
    axis.set_xlabel("pruning level")
    whole_levels(axis)
    legend(figure, axis)
    return figure


def pixels_figure(
    masks: pa.Table, tensor: str, input_shape: Sequence[int], levels: Sequence[int] | None = None
) -> Figure:
    """Which input pixels tickets look at: weights of a dense layer on the image that remain, by pixel, means over seeds
    and channels, one map per level; at most four, spread evenly.

    Raises LthError where the tensor is no dense layer on images of that shape, or no level above 0 is committed.
    """
    title = single_experiment(masks)
    rows = masks.filter(pc.and_(pc.equal(masks["arm"], "ticket"), pc.equal(masks["tensor"], tensor)))
    shapes = [list(shape) for shape in rows["shape"].to_pylist()]
    pixels = int(np.prod(input_shape))
    if not shapes or len(shapes[0]) != 2 or shapes[0][1] != pixels:
        raise LthError(f"{tensor} of {title} is no dense layer on an image of {pixels} values: there is no pixel map")
    present = sorted(level for level in pc.unique(rows["level"]).to_pylist() if level > 0)
    shown = list(levels) if levels is not None else _spread(present, 4)
    if not shown:
        raise LthError(f"no level above 0 of {title} is committed: there is no pixel map")
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(6.4, 2.4), layout=ConstrainedLayoutEngine(), facecolor="white")
    figure.suptitle(f"{title}: input weights that remain, by pixel", x=0.02, ha="left", fontsize=11, fontweight="bold")
    for axis, level in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        chosen = rows.filter(pc.equal(rows["level"], level))
        kept = np.mean(
            [
                np.unpackbits(np.frombuffer(bits, np.uint8), count=int(np.prod(shapes[0])), bitorder="little")
                .reshape(shapes[0])
                .mean(0)
                for bits in chosen["bits"].to_pylist()
            ],
            axis=0,
        )
        image = kept.reshape(input_shape).mean(0)
        drawn = axis.imshow(100 * image, cmap="viridis", vmin=0)
        axis.set_title(f"level {level}, {100 * kept.mean():.3g}%", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        figure.colorbar(drawn, ax=axis, shrink=0.8).ax.tick_params(labelsize=7)
    return figure


def initial_values_figure(
    title: str, initial: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray], provenance: str
) -> Figure:
    """How the initial weights of kept and of pruned connections are distributed, one panel per tensor (densities).

    `initial` and `masks` [seeds, *shape] by tensor. At most four tensors, the largest.
    """
    names = sorted(masks, key=lambda name: -masks[name].size)[:4]
    names = [name for name in masks if name in names]
    figure, axes = frame(title, provenance, [1.5] * len(names), sharex=False)
    styles = (("kept", "#0072B2", "-"), ("pruned", "#D55E00", "--"))
    for axis, name in zip(axes, names, strict=True):
        bins = np.linspace(initial[name].min(), initial[name].max(), 61)
        for (label, colour, line), chosen in zip(styles, (masks[name], ~masks[name]), strict=True):
            values = initial[name][chosen]
            if len(values):
                heights = np.histogram(values, bins, density=True)[0]
                axis.stairs(heights, bins, color=colour, linestyle=line, label=label)
        axis.set_ylabel(name, fontsize=8)
        axis.set_yticks([])
    axes[-1].set_xlabel("initial value")
    legend(figure, axes[0])
    return figure


def overlap_figure(overlap: pa.Table) -> Figure:
    """How much the tickets of different seeds share (Jaccard index), and what random masks of the same counts would,
    against the level."""
    rows = overlap.filter(pc.and_(pc.equal(overlap["between"], "seeds"), pc.equal(overlap["tensor"], "")))
    if not rows.num_rows:
        raise LthError("there is no overlap between seeds yet; run lth overlap")
    title = single_experiment(rows)
    means = (
        rows.group_by(["arm_a", "level_a"], use_threads=False)
        .aggregate([("jaccard", "mean"), ("chance", "mean"), ("jaccard", "count")])
        .sort_by("level_a")
    )
    arms = ordered_arms(means["arm_a"].to_pylist())
    figure, (axis,) = frame(
        f"{title}: overlap of masks between seeds",
        "means over pairs of seeds; thin: random masks with the same counts in every tensor",
    )
    for arm, style in arm_styles(arms).items():
        of_arm = means.filter(pc.equal(means["arm_a"], arm))
        axis.plot(
            of_arm["level_a"].to_numpy(),
            of_arm["jaccard_mean"].to_numpy(),
            color=style.colour,
            marker=style.marker,
            linestyle=style.line,
            markersize=5,
            linewidth=1.4,
            label=arm,
        )
        axis.plot(of_arm["level_a"].to_numpy(), of_arm["chance_mean"].to_numpy(), color=style.colour, linewidth=0.7)
    axis.set_ylabel("Jaccard index")
    plain_log(axis)
    axis.set_xlabel("pruning level")
    whole_levels(axis)
    legend(figure, axis)
    return figure


def connectivity_figure(connectivity: pa.Table) -> Figure:
    """The error barrier (points) between copies trained in other data orders against the step from which they part,
    one line per arm and level; below 2 points a training is called stable (Frankle et al. 2020)."""
    rows = [row for row in connectivity.to_pylist() if row["status"] == "ok" and row["split"] == "test"]
    if not rows:
        raise LthError("there are no barriers yet; run lth connectivity")
    title = single_experiment(connectivity)
    groups: dict[tuple[str, int], dict[int, dict[int, list[float]]]] = {}
    for row in rows:
        seeds = groups.setdefault((row["arm"], row["level"]), {}).setdefault(row["step"], {})
        seeds.setdefault(row["seed"], []).append(100 * row["barrier"])
    figure, (axis,) = frame(
        f"{title}: linear mode connectivity",
        "mean over seeds of the mean over pairs of copies, 95% t interval, test error; below 2 points: stable",
    )
    axis.axhline(2, color="#555555", linewidth=0.8)
    styles = arm_styles(arm for arm, _ in groups)
    for (arm, level), by_step in sorted(groups.items(), key=lambda item: (item[0][0] != "ticket", item[0])):
        steps = sorted(by_step)
        intervals = [mean_interval([float(np.mean(pairs)) for pairs in by_step[step].values()]) for step in steps]
        means = np.array([interval.mean for interval in intervals])
        errors = np.array([interval.high - interval.mean for interval in intervals])
        style, name = styles[arm], "dense" if level == 0 and arm == "ticket" else f"{arm}, level {level}"
        axis.errorbar(
            steps,
            means,
            yerr=errors,
            label=name,
            color="#555555" if name == "dense" else style.colour,
            marker=style.marker,
            linestyle=style.line,
            **BARS,
        )
    axis.set_ylabel("error barrier (points)")
    axis.set_xlabel("step from which copies part")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    legend(figure, axis)
    return figure


def cost_figure(
    levels: pa.Table,
    earlier: Callable[[int], Iterable[int]] = range,
    begins: Mapping[tuple[str, int], int] | None = None,
    whole: Collection[str] = (),
) -> Figure:
    """Test score at early stop against the training steps that lead there, one line per arm.

    A network has cost its own training and those of the tickets at the levels `earlier(level)`: all before its own
    where pruning is iterative, level 0 where it is done in one shot, none where it is done at initialisation.
    `begins`: (arm, level) -> the step at which its training began, where that is not 0 (late rewinding). Arms in
    `whole` were given the budget of all those trainings at once.
    """
    title, text = single_experiment(levels), ScoreText.of(levels)
    rows: dict[tuple[str, int], dict[str, Any]] = {
        (row["arm"], row["level"]): row for row in summarise(levels).to_pylist() if row["seeds"]
    }
    steps = levels.group_by(["arm", "level"], use_threads=False).aggregate([("steps", "mean")]).to_pydict()
    each = {
        place: last - (begins or {}).get(place, 0)
        for place, last in zip(zip(steps["arm"], steps["level"], strict=True), steps["steps_mean"], strict=True)
    }
    if not rows:
        raise LthError(f"every training of {title} diverged: there is nothing to draw")
    figure, (axis,) = frame(
        f"{title}: {text.label} against cost", "mean, 95% t interval; steps of all trainings that lead to a network"
    )
    for arm, style in arm_styles(arm for arm, _ in rows).items():
        points = []
        for level in sorted(level for name, level in rows if name == arm):
            spent = 0 if arm in whole else sum(each.get(("ticket", before), 0) for before in earlier(level))
            points.append((spent + each[arm, level], rows[arm, level]))
        column = "test_score_at_early_stop"
        means = [text.scale * row[f"{column}_mean"] for _, row in points]
        errors = [
            np.nan if row[f"{column}_low"] is None else text.scale * (row[f"{column}_mean"] - row[f"{column}_low"])
            for _, row in points
        ]
        axis.errorbar(
            [cost for cost, _ in points],
            means,
            yerr=errors,
            label=arm_label(arm),
            color=style.colour,
            marker=style.marker,
            linestyle=style.line,
            **BARS,
        )
    axis.set_ylabel(text.axis("test", " at early stop"))
    axis.set_xlabel("optimizer steps, all trainings before included")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    legend(figure, axis)
    return figure


def _spread(values: Sequence[int], most: int = MOST_LEVELS) -> list[int]:
    """At most `most` of the values, evenly spread, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(float(place))] for place in np.linspace(0, len(values) - 1, most)]


def _markers(count: int) -> list[str]:
    return [("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")[place % 10] for place in range(count)]
