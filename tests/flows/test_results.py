"""What is shown of a sweep, and what of its experiment."""

from __future__ import annotations

from pathlib import Path

from flows.results import results_of, results_of_sweep
from lth.data import load_dataset
from lth.experiment import load_experiment
from lth.store import Store
from lth.sweep.here import run_here


def test_a_smaller_sweep_shows_its_own_rows_and_takes_nothing_from_the_figures(tmp_path: Path) -> None:
    large, small = (load_experiment("smoke", ["arms=[ticket]", f"pruning.levels={levels}"]) for levels in (1, 0))
    store = Store(tmp_path)
    run_here(large, (0, 1, 2), store, load_dataset("digits"))
    first = results_of_sweep(store, large, (0, 1, 2))
    again = results_of_sweep(store, small, (1,))
    whole = results_of(store, large.id)
    assert first and again and whole and large.id == small.id
    assert (first.trainings, again.trainings, whole.trainings) == (6, 1, 6)
    assert again.summary.num_rows == 1 and first.figures == again.figures == whole.figures
    assert (tmp_path / "reports" / f"experiment={large.id}" / "accuracy.png").read_bytes() == first.figures["accuracy"]


def test_before_any_training_there_is_nothing_to_show(tmp_path: Path) -> None:
    assert results_of_sweep(Store(tmp_path), load_experiment("smoke"), (0,)) is None
    assert not list(tmp_path.rglob("*.png"))
