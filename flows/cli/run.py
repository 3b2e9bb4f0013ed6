"""`lth run`: checks, the sweep under a live display, the table, the figures, where the time went."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.markup import escape

from flows.cli.start import data_before_start, run_flow, run_shown
from lth.console import Console
from lth.errors import LthError
from lth.experiment import Execution, Experiment, format_seeds, parse_seeds
from lth.store import READING, Store
from lth.sweep.cohort_size import refuse_slip
from lth.sweep.pins import changed_since, pins_of, refusal, with_changes_accepted
from lth.sweep.planning import Done, Key, done_of, planned_count
from lth.until_decided import UntilDecided, run_until_decided, settled, so_far

KEPT = "Every unit that was committed is kept."


def run_sweep(
    experiment: Experiment,
    seeds: str,
    store_url: str,
    execution: Execution,
    figures: Path | None,
    yes: bool,
    exported: bytes | None = None,
    here: bool = False,
    until: UntilDecided | None = None,
    accept_changes: bool = False,
) -> None:
    """Run what is missing of a sweep, then show all of it. `exported` is a ticket that it takes over; `here`: in this
    process, without Prefect and Ray; `until`: add seeds until the claim is decided; `accept_changes`: where its code or
    versions are not those that it began with, it becomes another experiment."""
    console = Console(highlight=False)
    replicates = parse_seeds(seeds)
    if until is not None:
        until.check(replicates)
    if not yes:
        most = replicates if until is None else until.all_seeds(replicates)
        refuse_slip(experiment, most, execution.cohort_size, "add --yes")
    store = Store(store_url, READING)  # somebody waits at the terminal; the sweep's own stores are more patient
    store.check_writable()
    if exported is not None:
        store.put_ticket(exported)
    pins = pins_of(experiment)
    if accept_changes:
        experiment = with_changes_accepted(store, experiment, pins)
    changes = changed_since(store, experiment.id, pins, on_cpu=False)  # a worker says which instructions its CPU has
    failure: LthError | None = None
    if _nothing_to_do(experiment, replicates, store, until, console):
        if changes:
            console.print(f"[yellow]note:[/] {escape(refusal(experiment.id, changes))}", soft_wrap=True)
    elif changes:
        raise LthError(refusal(experiment.id, changes))
    elif here:
        _run_here(experiment, replicates, store_url, execution, until, console)
    else:
        from flows.sweep import SweepFailed

        try:
            outcome = _start(experiment, replicates, store, execution, until, console)
            _say_what_came_of_it(outcome["diverged"], outcome["seconds"], outcome["slots"], console)
        except SweepFailed as error:
            failure = error  # what is committed is shown all the same
    if until is not None:
        replicates = so_far(experiment, replicates, store, until)
    show_results(experiment, store, replicates, console, figures)
    if failure is not None:
        raise failure


def _nothing_to_do(
    experiment: Experiment, seeds: tuple[int, ...], store: Store, until: UntilDecided | None, console: Console
) -> bool:
    """Whether all that may be run is committed; says so."""
    if until is not None:
        if not settled(experiment, seeds, store, until):
            return False
        seeds = so_far(experiment, seeds, store, until)
    trainings = planned_count(experiment, len(seeds))
    if len(done_of(experiment, seeds, store.committed(experiment.id))) < trainings:
        return False
    console.print(
        f"[bold]{experiment.id}[/]: all {trainings:,} trainings are committed in {store.url}; nothing to do.",
        soft_wrap=True,
    )
    return True


def _start(
    experiment: Experiment,
    seeds: tuple[int, ...],
    store: Store,
    execution: Execution,
    until: UntilDecided | None,
    console: Console,
) -> dict[str, Any]:
    begun = time.perf_counter()

    def start() -> dict[str, Any]:
        _check_before_start(experiment, store, seeds)
        from flows.sweep import sweep

        outcomes: list[dict[str, Any]] = []

        def run(wanted: tuple[int, ...]) -> None:
            outcomes.append(dict(sweep(experiment, format_seeds(wanted), store.url, execution)))

        if until is None:
            run(seeds)
        else:
            run_until_decided(experiment, seeds, store, until, run)
        parts = dict.fromkeys(part for one in outcomes for part in one["seconds"])
        seconds = {part: sum(one["seconds"].get(part, 0.0) for one in outcomes) for part in parts}
        return {**outcomes[-1], "seconds": seconds}

    outcome = run_flow(start, experiment, console, KEPT)
    # What passed before and after the flow's own clock is the start and end of Prefect and Ray.
    around = time.perf_counter() - begun - outcome["seconds"]["wall"]
    for part in ("start", "wall"):
        outcome["seconds"][part] += around
    return outcome


def _run_here(
    experiment: Experiment,
    seeds: tuple[int, ...],
    store_url: str,
    execution: Execution,
    until: UntilDecided | None,
    console: Console,
) -> None:
    from lth.sweep.here import sweep_here
    from lth.sweep.seconds import Seconds

    seconds = Seconds()

    done: dict[Key, Done] = {}

    def run(wanted: tuple[int, ...]) -> None:
        done.update(sweep_here(experiment, wanted, Store(store_url), execution, seconds))

    def start() -> None:
        if until is None:
            run(seeds)
        else:
            run_until_decided(experiment, seeds, Store(store_url, READING), until, run)

    run_shown(start, experiment, console, KEPT)
    _say_what_came_of_it(sum(one.diverged for one in done.values()), seconds.split(), 1, console)


def _say_what_came_of_it(diverged: int, seconds: dict[str, float], slots: int, console: Console) -> None:
    if diverged:
        console.print(f"[yellow]{diverged} trainings diverged[/]; they are recorded and left out of the means.")
    console.print(time_line(seconds, slots), soft_wrap=True)


def _check_before_start(experiment: Experiment, store: Store, seeds: tuple[int, ...]) -> None:
    """Find mistakes that need the data before Prefect and Ray are started, where reading the data is quick."""
    from lth.sweep.inspecting import inspected
    from lth.sweep.setup import DataFacts, resolve
    from lth.sweep.transfer import find_tickets

    data = data_before_start(experiment)
    if data is not None:
        facts = DataFacts.of(data)
        resolve(experiment, facts)
        find_tickets(store, experiment, seeds, facts)
        inspected(experiment, data)


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
    from flows.results import results_of_sweep
    from lth.report import claim, summary_table

    found = results_of_sweep(store, experiment, seeds)
    if found is None:
        console.print("no training has finished without diverging; there is nothing to show yet")
        return
    console.print(summary_table(found.summary))
    if found.verdicts.num_rows:
        console.print(f"[bold]{claim(found.verdicts)}[/] More: lth verdicts {experiment.id}")
    for name, picture in found.figures.items():
        console.print(f"figure: {found.urls[name]}", soft_wrap=True)
        if figures is not None:
            try:
                figures.mkdir(parents=True, exist_ok=True)
                (figures / f"{name}.png").write_bytes(picture)
            except OSError as error:
                raise LthError(
                    f"cannot write figures into {figures}: {error.strerror}; choose another --figures"
                ) from None
