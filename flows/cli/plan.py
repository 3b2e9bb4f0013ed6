"""`lth plan`: what a run would do, how long it would take, how much it would store. Starts nothing."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from lth.experiment import Experiment, format_seeds
from lth.store import READING, Store
from lth.sweep.cohort_size import choose_cohort_size
from lth.sweep.estimate import estimate_storage, steps_to_train, time_a_step
from lth.sweep.inspecting import inspected
from lth.sweep.network_texts import notes, shares
from lth.sweep.planning import done_of, needs, plan, planned_count
from lth.sweep.setup import DataFacts, resolve
from lth.sweep.transfer import find_tickets


def print_plan(
    experiment: Experiment,
    seeds: tuple[int, ...],
    store_url: str,
    cohort_size: int | None,
    slots: int,
    exported: bytes | None = None,
) -> None:
    """Units, task runs, and estimates; the time is that of a few real training steps measured here."""
    console = Console(highlight=False)
    with console.status(f"reading the data set {experiment.dataset.name}") as status:
        data = experiment.dataset.load()
        facts = DataFacts.of(data)
        setup = resolve(experiment, facts)
        store = Store(store_url, READING)
        find_tickets(store, experiment, seeds, facts, exported)
        status.update("inspecting the network: repeatable, batch sizes, gradients, evidence")
        said = notes(experiment, facts, inspected(experiment, data))
        status.update("timing a few training steps")
        step, evaluation, final = time_a_step(setup, experiment, data)
    done = done_of(experiment, seeds, store.committed(experiment.id))
    size = cohort_size or choose_cohort_size(len(seeds), slots, setup.network.layout.width)
    units = plan(experiment, seeds, done, size)
    trainings = sum(len(unit.seeds) for unit in units)
    # Rewind, train and evaluate for every unit, prune for tickets below level 0, one prepare, and one for every unit
    # that is committed already and that others build on.
    needed = {(*need, seed) for unit in units for need in needs(experiment, unit) for seed in unit.seeds}
    runs = sum(4 if unit.arm == "ticket" and unit.level else 3 for unit in units) + bool(units)
    runs += len({done[key].unit for key in needed if key in done})
    recipe = setup.recipe
    steps = [len(unit.seeds) * steps_to_train(setup, experiment, unit) for unit in units]
    each = recipe.steps * step + (recipe.steps // recipe.evaluate_every + 1) * evaluation + final
    work = sum(steps) * (step + evaluation / recipe.evaluate_every) + trainings * (evaluation + final)
    seconds = work / min(slots, max(len(units), 1))
    landed = estimate_storage(setup, experiment, trainings)

    console.print(f"plan of [bold]{experiment.id}[/]")
    table = Table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    rows = [
        ("seeds", f"{format_seeds(seeds)} ({len(seeds):,})"),
        (
            "levels",
            f"{experiment.pruning.levels}, those of {experiment.transfer.experiment or 'the ticket'}"
            if experiment.transfer
            else f"{experiment.pruning.levels}, down to {_last_density(setup.counts):.2%} of "
            f"{sum(setup.counts[0].values()):,} " + ("units" if setup.groups else "prunable weights"),
        ),
        ("arms", ", ".join(arm if not draw else f"{arm} (draw {draw})" for arm, draw in experiment.draws())),
        ("one training", f"{recipe.steps:,} steps of {recipe.batch_size} examples, about {each:.1f} s of one core"),
        (
            "trainings",
            f"{planned_count(experiment, len(seeds)):,} planned, {len(done):,} committed, {trainings:,} to do",
        ),
        ("units", f"{len(units):,} of up to {size} seeds, {slots} at a time"),
        ("task runs", f"{runs:,} in Prefect"),
        ("time", f"about {_duration(seconds)} on {slots} cores like this one, after the start"),
        ("storage", f"about {_bytes(landed)} in {store.url}"),
    ]
    for name, text in rows:
        table.add_row(name, text)
    console.print(table)
    weights = Table()
    weights.add_column(experiment.model.name, overflow="fold")
    weights.add_column("weights", justify="right", no_wrap=True)
    weights.add_column("share", justify="right", no_wrap=True)
    for part in shares(experiment, facts):
        weights.add_row(part.what, f"{part.weights:,}", f"{part.share:.1%}")
    console.print(weights)
    for note in said:
        console.print(f"- {note}")


def _last_density(counts: tuple[dict[str, int], ...]) -> float:
    return sum(counts[-1].values()) / sum(counts[0].values())


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
