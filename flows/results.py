"""What a sweep has found so far, for the terminal and for Prefect's UI: the summary and the figures."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pyarrow as pa

from lth.experiment import Experiment
from lth.store import Store
from lth.sweep.planning import done_of


@dataclass(frozen=True)
class Results:
    """`summary`: a row per level and arm; `figures`: PNG files by name, which the store holds, too, at `urls`."""

    summary: pa.Table
    figures: dict[str, bytes]
    urls: dict[str, str]


def levels_of_sweep(experiment: Experiment, store: Store, seeds: tuple[int, ...]) -> pa.Table:
    """The rows of `levels` that belong to a sweep: its arms, levels and seeds."""
    committed = store.committed(experiment.id)
    ours = done_of(experiment, seeds, committed)
    places = zip(*(committed.rows[name].to_pylist() for name in ("arm", "draw", "level", "seed")), strict=True)
    return committed.rows.filter(pa.array([place in ours for place in places], pa.bool_()))


def results_of(store: Store, experiment_id: str, levels: pa.Table) -> Results | None:
    """Summarise and draw rows of `levels` of one experiment; the figures go into the store. None before any training
    ended without diverging."""
    from lth.analysis import summarise
    from lth.report import accuracy_figure, early_stop_figure, save_png

    if "ok" not in levels["status"].to_pylist():
        return None
    figures = {}
    for name, make in (("accuracy", accuracy_figure), ("early-stop", early_stop_figure)):
        buffer = io.BytesIO()
        save_png(make(levels), buffer)
        figures[name] = buffer.getvalue()
        store.put_report(experiment_id, f"{name}.png", figures[name])
    urls = {name: store.report_url(experiment_id, f"{name}.png") for name in figures}
    return Results(summarise(levels), figures, urls)
