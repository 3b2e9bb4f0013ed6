"""Figures of what tickets look like: the numbers that are drawn are those of the tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lth.errors import LthError
from lth.report import detail_figures
from lth.store import Unit, pack

ID = "toy-0123456789"


def lines(figure: Any, axis: int = 0) -> dict[str, np.ndarray]:
    return {
        line.get_label(): np.array(line.get_xydata())
        for line in figure.axes[axis].lines
        if not line.get_label().startswith("_")
    }


def test_learning_curves_are_means_over_seeds() -> None:
    rows = [
        {
            "experiment_id": ID,
            "arm": "ticket",
            "seed": seed,
            "draw": 0,
            "level": level,
            "density": 0.5**level,
            "step": step,
            "split": split,
            "loss": 1.0 / (1 + step) + seed,
            "accuracy": 0.9 + 0.02 * seed,
        }
        for seed in (0, 1)
        for level in range(10)
        for step in (0, 10)
        for split in ("val", "test")
    ]
    trained = [{name: row[name] for name in ("arm", "draw", "level", "seed")} | {"status": "ok"} for row in rows]
    wild = [{**row, "seed": 2, "loss": 1e21, "accuracy": 0.1} for row in rows if row["seed"] == 1]
    trained += [{"arm": "ticket", "draw": 0, "level": level, "seed": 2, "status": "diverged"} for level in range(10)]
    levels = pa.Table.from_pylist(trained)
    figure = detail_figures.learning_curves_figure(pa.Table.from_pylist(rows + wild), levels)
    error, loss = lines(figure, 0), lines(figure, 1)
    assert len(error) == 7 and next(iter(error)) == "100%" and list(error)[-1] == "0.195%"  # 1 / 2^9: the deepest
    assert error["100%"].tolist() == pytest.approx(np.array([[0, 9], [10, 9]]))
    assert loss["100%"][:, 1] == pytest.approx([1.5, 0.5 + 1 / 11])
    with pytest.raises(LthError, match="no validation curves of 'reinit'"):
        detail_figures.learning_curves_figure(pa.Table.from_pylist(rows), levels, "reinit")


def test_layers_show_what_remains_and_what_is_effective() -> None:
    rows = [
        {
            "experiment_id": ID,
            "arm": "ticket",
            "seed": seed,
            "draw": 0,
            "level": level,
            "tensor": tensor,
            "density": density**level,
            "effective_density": 0.5 * density**level if tensor == "b" else density**level,
        }
        for seed in (0, 1)
        for level in range(3)
        for tensor, density in (("a", 0.8), ("b", 0.6))
    ]
    figure = detail_figures.layer_density_figure(pa.Table.from_pylist(rows))
    drawn = lines(figure)
    assert drawn["a"][:, 1] == pytest.approx([100, 80, 64]) and drawn["b"][:, 1] == pytest.approx([100, 60, 36])
    thin = [line for line in figure.axes[0].lines if line.get_linewidth() == 0.7]
    assert len(thin) == 1 and thin[0].get_ydata() == pytest.approx([50, 30, 18])


def test_pixels_count_the_weights_that_read_them() -> None:
    mask = np.zeros((2, 3, 4), dtype=bool)  # two seeds, three units, four pixels
    mask[0, :, 0] = True
    mask[1, 0, :] = True
    tensors = {"first.weight": mask, "last.weight": np.ones((2, 2, 3), dtype=bool)}
    masks = pack(tensors, ID, Unit("ticket", 0, 1, (0, 1)))
    figure = detail_figures.pixels_figure(masks, "first.weight", (1, 2, 2))
    image = figure.axes[0].images[0].get_array()
    # Pixel 0: 3 of 3 and 1 of 3; the others 0 of 3 and 1 of 3; means over the seeds.
    np.testing.assert_allclose(image, 100 * np.array([[4 / 6, 1 / 6], [1 / 6, 1 / 6]]))
    with pytest.raises(LthError, match="no dense layer on an image of 5 values"):
        detail_figures.pixels_figure(masks, "first.weight", (1, 1, 5))


def test_initial_values_are_split_by_the_mask() -> None:
    values = np.array([[[-1.0, -0.5, 0.5, 1.0]]])
    figure = detail_figures.initial_values_figure("toy", {"w": values}, {"w": np.abs(values) > 0.7}, "n = 1")
    kept, pruned = (patch.get_data().values for patch in figure.axes[0].patches)
    assert kept[0] > 0 and kept[-1] > 0 and kept[1:-1].sum() == 0 and pruned[[0, -1]].sum() == 0 and pruned.sum() > 0


def test_overlap_stands_beside_chance() -> None:
    rows = [
        {
            "experiment_id": ID,
            "between": "seeds",
            "arm_a": "ticket",
            "level_a": level,
            "tensor": tensor,
            "jaccard": 0.5 + pair / 10,
            "chance": 0.3,
        }
        for level in (1, 2)
        for pair in (0, 1)
        for tensor in ("", "w")
    ]
    figure = detail_figures.overlap_figure(pa.Table.from_pylist(rows))
    assert lines(figure)["ticket"].tolist() == pytest.approx(np.array([[1, 0.55], [2, 0.55]]))
    thin = [line for line in figure.axes[0].lines if line.get_linewidth() == 0.7]
    assert thin[0].get_ydata() == pytest.approx([0.3, 0.3])


def test_barriers_are_means_over_pairs_then_seeds() -> None:
    rows = [
        {
            "experiment_id": ID,
            "arm": "ticket",
            "level": 0,
            "seed": seed,
            "step": step,
            "status": "ok",
            "split": "test",
            "barrier": (0.2 if step == 0 else 0.01) + 0.02 * seed + 0.01 * pair,
        }
        for seed in (0, 1)
        for step in (0, 100)
        for pair in (0, 1, 2)
    ]
    figure = detail_figures.connectivity_figure(pa.Table.from_pylist(rows))
    (container,) = figure.axes[0].containers
    assert container.get_label() == "dense"
    assert container.lines[0].get_xydata().tolist() == pytest.approx(np.array([[0, 22], [100, 3]]))
    with pytest.raises(LthError, match="run lth connectivity"):
        detail_figures.connectivity_figure(pa.Table.from_pylist(rows).slice(0, 0))


@pytest.mark.parametrize(
    ("earlier", "costs"),
    [
        (range, [100, 200, 300]),
        (lambda level: range(min(level, 1)), [100, 200, 200]),
        (lambda level: range(0), [100, 100, 100]),
    ],
)
def test_cost_counts_the_trainings_before(sweep, earlier, costs: list[int]) -> None:
    table = sweep({"ticket": [0.975, 0.976, 0.978], "reinit": [None, 0.97, 0.96]})
    table = table.append_column("steps", pa.array([100] * table.num_rows))
    figure = detail_figures.cost_figure(table, earlier)
    drawn = {container.get_label(): container.lines[0].get_xdata().tolist() for container in figure.axes[0].containers}
    assert drawn == {"ticket": costs, "reinit": costs[1:]}


def test_cost_of_late_rewinding_and_of_a_whole_budget(sweep) -> None:
    """Dense 100 steps; tickets from step 30 to 100; the dense network of the same budget 100 + 70 n at once."""
    table = sweep({"ticket": [0.975, 0.976, 0.978], "dense": [None, 0.97, 0.96]})
    budgets = {("dense", 1): 170, ("dense", 2): 240}
    places = zip(table["arm"].to_pylist(), table["level"].to_pylist(), strict=True)
    table = table.append_column("steps", pa.array([budgets.get(place, 100) for place in places]))
    figure = detail_figures.cost_figure(table, range, {("ticket", 1): 30, ("ticket", 2): 30}, {"dense"})
    drawn = {container.get_label(): container.lines[0].get_xdata().tolist() for container in figure.axes[0].containers}
    assert drawn == {"ticket": [100, 170, 240], "dense, same budget": [170, 240]}
