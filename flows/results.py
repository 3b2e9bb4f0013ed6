"""What a sweep has found so far, for the terminal and for Prefect's UI: the summary and the figures."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pyarrow as pa

from lth.experiment import Experiment
from lth.results import judge
from lth.store import Store
from lth.sweep.planning import done_of


@dataclass(frozen=True)
class SweepResults:
    """`summary`: a row per level and arm of so many `trainings`; `figures`: PNG files, which the store holds at `urls`.

    `verdicts` are empty before level 1. They and the figures are of everything that the store holds of the experiment:
    a later, smaller sweep takes nothing away. `notes`: what a reader must know of the data.
    """

    trainings: int
    summary: pa.Table
    verdicts: pa.Table
    notes: list[str]
    figures: dict[str, bytes]
    urls: dict[str, str]


def results_of_sweep(store: Store, experiment: Experiment, seeds: tuple[int, ...]) -> SweepResults | None:
    """What a sweep has found: the summary is of its own arms, levels and seeds."""
    committed = store.committed(experiment.id)
    ours = done_of(experiment, seeds, committed)
    places = zip(*(committed.rows[name].to_pylist() for name in ("arm", "draw", "level", "seed")), strict=True)
    levels = committed.rows.filter(pa.array([place in ours for place in places], pa.bool_()))
    return _results(store, experiment.id, committed.rows, levels)


def results_of(store: Store, experiment_id: str) -> SweepResults | None:
    """Everything that a store holds of an experiment."""
    levels = store.committed(experiment_id).rows
    return _results(store, experiment_id, levels, levels)


def _results(store: Store, experiment_id: str, everything: pa.Table, levels: pa.Table) -> SweepResults | None:
    """Summarise `levels`, draw `everything` into the store. None before any training ended without diverging."""
    from lth.analysis import single_score, summarise
    from lth.report import early_stop_figure, recorded_caveats, save_png, score_figure

    if "ok" not in levels["status"].to_pylist():
        return None
    figures = {}
    for name, make in ((single_score(everything).name, score_figure), ("early-stop", early_stop_figure)):
        buffer = io.BytesIO()
        save_png(make(everything), buffer)
        figures[name] = buffer.getvalue()
        store.put_report(experiment_id, f"{name}.png", figures[name])
    urls = {name: store.report_url(experiment_id, f"{name}.png") for name in figures}
    judged = judge(store, experiment_id, everything)
    return SweepResults(
        levels.num_rows, summarise(levels), judged, recorded_caveats(store.describe(experiment_id)), figures, urls
    )


def put_report_page(store: Store, experiment_id: str) -> str:
    """Write the HTML report of all that the store holds of an experiment into the store; its URL."""
    import lth.results
    from lth.report import report_page

    results = lth.results.open(store.url, experiment_id)
    page = report_page(results, experiment_id, store.describe(experiment_id), results.verdicts)
    store.put_report(experiment_id, "report.html", page.encode())
    return store.report_url(experiment_id, "report.html")
