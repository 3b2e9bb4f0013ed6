"""`lth run`: checks, the sweep under a live display, the table, the figures, where the time went."""

from __future__ import annotations

import io
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.cli.live import Display
from lth.errors import InvalidExperiment, LthError
from lth.experiment import Execution, Experiment, parse_seeds
from lth.store import Store
from lth.sweep.planning import LARGEST_COHORT, done_of, planned_count

# A sweep of more trainings than this is more often a slip of the finger than a wish.
LARGE_SWEEP = 100_000


def run_sweep(
    experiment: Experiment, seeds: str, store_url: str, execution: Execution, figures: Path | None, yes: bool
) -> None:
    """Run what is missing of a sweep, then show all of it."""
    console = Console(highlight=False)
    replicates = parse_seeds(seeds)
    trainings = planned_count(experiment, len(replicates))
    if trainings > LARGE_SWEEP and not yes:
        units = -(-len(replicates) // (execution.cohort_size or LARGEST_COHORT)) * planned_count(experiment, 1)
        raise InvalidExperiment(f"{len(replicates):,} seeds are {trainings:,} trainings in at least {units:,} units; "
                                "add --yes if that is meant")
    store = Store(store_url)
    store.check_writable()
    committed = store.committed(experiment.id)
    done = done_of(experiment, replicates, committed)
    failure: LthError | None = None
    if len(done) == trainings:
        console.print(f"[bold]{experiment.id}[/]: all {trainings:,} trainings are committed in {store.url}; "
                      "nothing to do.", soft_wrap=True)
    else:
        from flows.sweep import SweepFailed

        try:
            outcome = _start(experiment, seeds, store, execution, console)
            if outcome["diverged"]:
                console.print(f"[yellow]{outcome['diverged']} trainings diverged[/]; they are recorded and left out of "
                              "the means.")
            console.print(time_line(outcome["seconds"], outcome["slots"]), soft_wrap=True)
        except SweepFailed as error:
            failure = error  # what is committed is shown all the same
    show_results(experiment, store, replicates, console, figures)
    if failure is not None:
        raise failure


def _start(
    experiment: Experiment, seeds: str, store: Store, execution: Execution, console: Console
) -> dict[str, Any]:
    begun = time.perf_counter()
    display = Display(console, experiment)
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with display:
            display.phase("starting Prefect and Ray")
            _check_before_start(experiment)
            from flows.local_server import own_session
            from flows.progress import LISTENER
            from flows.sweep import sweep

            LISTENER.set(display.listen)
            with own_session():
                outcome = dict(_with_server(lambda: sweep(experiment, seeds, store.url, execution)))
    except KeyboardInterrupt:
        console.print("\n[bold]Stopped.[/] Every unit that was committed is kept. Resume with:")
        console.print("  " + shlex.join(["lth", *sys.argv[1:]]), soft_wrap=True, markup=False)
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
    # What passed before and after the flow's own clock is the start and end of Prefect and Ray.
    around = time.perf_counter() - begun - outcome["seconds"]["wall"]
    for part in ("start", "wall"):
        outcome["seconds"][part] += around
    return outcome


def _with_server(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run the flow; a Prefect server that cannot be reached is a mistake to be mended, not a crash."""
    import httpx

    try:
        return run()
    except (RuntimeError, httpx.HTTPError) as error:
        if "Failed to reach API" not in str(error) and not isinstance(error, httpx.HTTPError):
            raise
        where = os.environ.get("PREFECT_API_URL", "its own temporary server")
        raise LthError(f"Prefect's API does not answer at {_without_secrets(where)}; start the server, mend "
                       "PREFECT_API_URL, or unset it") from None


def _without_secrets(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return scheme + separator + rest.rpartition("@")[2]


def _check_before_start(experiment: Experiment) -> None:
    """Find mistakes that need the data before Prefect and Ray are started, where reading the data is quick."""
    from lth.data import load_dataset
    from lth.sweep.setup import DataFacts, setup

    if experiment.dataset.name != "parquet" and os.environ.get("RAY_ADDRESS", "local") == "local":
        setup(experiment, DataFacts.of(load_dataset(experiment.dataset.name, path=experiment.dataset.path)))


def time_line(seconds: dict[str, float], slots: int) -> str:
    """Where the wall time went, on one line."""
    wall = seconds["wall"]
    working = max(wall - seconds["start"], 1e-9)
    parts = [f"start {seconds['start']:.1f} s"]
    for name in ("training", "evaluation", "pruning", "storage", "orchestration"):
        if name in seconds:
            parts.append(f"{name} {seconds[name]:.1f} s ({seconds[name] / working:.0%})")
    side = "one after another" if slots == 1 else f"{slots} side by side"
    return f"Time: {wall:.1f} s, units {side}: " + " · ".join(parts)


def show_results(
    experiment: Experiment, store: Store, seeds: tuple[int, ...], console: Console, figures: Path | None
) -> None:
    """The table on the screen and the figures in the store (and in `figures`)."""
    import pyarrow as pa

    from lth.analysis import summarise
    from lth.report import accuracy_figure, early_stop_figure, save_png, summary_table

    committed = store.committed(experiment.id)
    ours = done_of(experiment, seeds, committed)
    places = zip(*(committed.rows[name].to_pylist() for name in ("arm", "draw", "level", "seed")), strict=True)
    levels = committed.rows.filter(pa.array([place in ours for place in places], pa.bool_()))
    if "ok" not in levels["status"].to_pylist():
        console.print("no training has finished without diverging; there is nothing to show yet")
        return
    console.print(summary_table(summarise(levels)))
    for name, make in (("accuracy", accuracy_figure), ("early-stop", early_stop_figure)):
        buffer = io.BytesIO()
        save_png(make(levels), buffer)
        picture = buffer.getvalue()
        store.put_report(experiment.id, f"{name}.png", picture)
        console.print(f"figure: {store.report_url(experiment.id, f'{name}.png')}", soft_wrap=True)
        if figures is not None:
            try:
                figures.mkdir(parents=True, exist_ok=True)
                (figures / f"{name}.png").write_bytes(picture)
            except OSError as error:
                raise LthError(f"cannot write figures into {figures}: {error.strerror}; choose another --figures") \
                    from None
