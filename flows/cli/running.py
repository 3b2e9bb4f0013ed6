"""`lth run`: checks, the sweep under a live display, the table, the figures, where the time went."""

from __future__ import annotations

import contextlib
import io
import signal
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.cli.live import Display
from lth.errors import InvalidExperiment, LthError
from lth.experiment import Execution, Experiment, parse_seeds
from lth.store import Store
from lth.sweep.planning import LARGEST_COHORT, planned_count

# A sweep of more trainings than this is more often a slip of the finger than a wish.
LARGE_SWEEP = 100_000


def run_sweep(
    experiment: Experiment, seeds: str, store_url: str, execution: Execution, figures: Path | None, yes: bool,
    command: str,
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
    arms = set(experiment.draws())
    done = {key for key in committed.where
            if key[:2] in arms and key[2] <= experiment.pruning.levels and key[3] in set(replicates)}
    if len(done) == trainings and not committed.damaged:
        console.print(f"[bold]{experiment.id}[/]: all {trainings:,} trainings are committed in {store.url}; "
                      "nothing to do.", soft_wrap=True)
    else:
        outcome = _start(experiment, seeds, store, execution, console, command)
        if outcome["diverged"]:
            console.print(f"[yellow]{outcome['diverged']} trainings diverged[/]; they are recorded and left out of "
                          "the means.")
        console.print(time_line(outcome["seconds"], outcome["slots"]), soft_wrap=True)
    show_results(experiment, store, replicates, console, figures)


def _start(
    experiment: Experiment, seeds: str, store: Store, execution: Execution, console: Console, command: str
) -> dict[str, Any]:
    display = Display(console, experiment)
    with display:
        display.phase("starting Prefect and Ray")
        _check_before_start(experiment)
        from flows.progress import LISTENER
        from flows.sweep import sweep

        LISTENER.set(display.listen)
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return dict(sweep(experiment, seeds, store.url, execution))
        except KeyboardInterrupt:
            display.__exit__(None, None, None)
            console.print(f"\n[bold]Stopped.[/] Every unit that was committed is kept. Resume with:\n  {command}",
                          soft_wrap=True)
            raise
        finally:
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGTERM, previous)


def _check_before_start(experiment: Experiment) -> None:
    """Find mistakes that need the data before Prefect and Ray are started, where reading the data is quick."""
    import os

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
    import pyarrow.compute as pc

    from lth.analysis import summarise
    from lth.report import accuracy_figure, early_stop_figure, save_png, summary_table

    levels = store.committed(experiment.id).rows
    levels = levels.filter(pc.is_in(levels["seed"], value_set=_int64(seeds)))
    levels = levels.filter(pc.less_equal(levels["level"], experiment.pruning.levels))
    levels = levels.filter(pc.is_in(levels["arm"], value_set=_strings([arm.name for arm in experiment.arms])))
    if levels.num_rows == 0:
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


def _int64(values: tuple[int, ...]) -> Any:
    import pyarrow as pa

    return pa.array(values, pa.int64())


def _strings(values: list[str]) -> Any:
    import pyarrow as pa

    return pa.array(values, pa.string())
