"""`lth compact`, `lth delete`, `lth clean`: what a store needs now and then. No server and no cluster takes part."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.options import STORE, Settings, StoreOption
from lth.console import Console
from lth.errors import InvalidExperiment, LthError
from lth.store import READING, Store
from lth.store.claims import LAPSE
from lth.store.removal import Removal

Yes = Annotated[bool, typer.Option("--yes", help="Remove it; without this, only say what would be removed.")]
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@app.command()
def compact(
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild", help="Read every curated file, and write anew what is damaged or not what has landed."
        ),
    ] = False,
    store: StoreOption = STORE,
) -> None:
    """Gather what has landed into the curated tables (Delta Lake), which large stores are read from."""
    from lth.store.curated import compact as compact_store

    place, console = _store(store), Console(highlight=False)
    done = compact_store(place, rebuild=rebuild)
    for key, reason in done.damaged.items():
        console.print(f"[yellow]set aside:[/] {key}: {reason}; the next run of its sweep does it anew", soft_wrap=True)
    rows = ", ".join(f"{count:,} rows of {kind}" for kind, count in done.added.items())
    console.print(f"{place.url}: {rows} added to the curated tables", soft_wrap=True)


@app.command()
def delete(
    experiment: Annotated[str, typer.Argument(metavar="PRESET|FILE|ID", help="Which experiment of the store.")],
    yes: Yes = False,
    store: StoreOption = STORE,
    set_: Settings = None,
) -> None:
    """Remove an experiment from a store: results, masks, checkpoints, reports, its rows in the curated tables."""
    from flows.cli.inspection import id_in
    from lth.store.removal import delete_experiment, plan_deletion

    place, console = _store(store), Console(highlight=False)
    known = place.experiments()
    identifier = experiment
    if experiment not in known and not re.fullmatch(r".+-[0-9a-f]{10}", experiment):
        identifier = id_in(place, experiment, set_ or [])
    plan = plan_deletion(place, identifier)
    if not len(plan):
        holds = ", ".join(known) or "nothing"
        console.print(f"{place.url} has nothing of {identifier}: nothing to remove; it holds {holds}", soft_wrap=True)
        return
    _say(plan, console)
    if not yes:
        _nothing_yet(console)
        return
    delete_experiment(place, identifier)
    console.print(f"[bold]{identifier}[/] is removed from {place.url}", soft_wrap=True)


@app.command()
def clean(
    experiment: Annotated[
        str | None, typer.Argument(metavar="[PRESET|FILE|ID]", help="Which experiment; all if not given.")
    ] = None,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Rewind points and trained weights, the largest part of a store.")
    ] = False,
    progress: Annotated[
        bool, typer.Option("--progress", help="Trainings in progress that no sweep is at any more.")
    ] = False,
    quarantine: Annotated[bool, typer.Option("--quarantine", help="Damaged objects that were set aside.")] = False,
    older_than: Annotated[str, typer.Option(help="Only what was written so long ago, as 30d, 12h or 90m.")] = "0d",
    yes: Yes = False,
    store: StoreOption = STORE,
    set_: Settings = None,
) -> None:
    """Remove what no result depends on: checkpoints, cut-short trainings, what was set aside, ended sweeps' claims."""
    from flows.cli.inspection import id_in
    from lth.store import removal

    age = _seconds(older_than)
    place, console = _store(store), Console(highlight=False)
    chosen = place.experiments() if experiment is None else [id_in(place, experiment, set_ or [])]
    wanted = {"checkpoints": checkpoints, "progress": progress, "quarantine": quarantine}
    plans = []
    for identifier in chosen:
        user = removal.in_use(place, identifier) if yes else None
        if user:
            console.print(f"{identifier}: {user}; looking whether it still does", soft_wrap=True)
        watch = 2 * LAPSE if user else 0.0
        plans.append(removal.plan_cleaning(place, identifier, **wanted, older_than=age, watch=watch))
    for plan in plans:
        _say(plan, console)
    if not any(map(len, plans)):
        named = any(wanted.values())
        console.print(
            "nothing to remove" + ("" if named else "; say what: --checkpoints, --progress, --quarantine"),
            soft_wrap=True,
        )
        return
    if not yes:
        _nothing_yet(console)
        return
    for plan in plans:
        removal.clean(place, plan)
    console.print(f"{sum(plan.bytes for plan in plans) / 1e6:,.1f} MB removed from {place.url}", soft_wrap=True)


def _store(url: str) -> Store:
    place = Store(url, READING)
    location = place.objects.location
    if not place.experiments() and not place.objects.folders("curated"):
        raise LthError(f"there is no experiment in {location.url}; check the address")
    return place


def _seconds(age: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", age.strip())
    if not found:
        raise InvalidExperiment(f"--older-than {age!r} is no age; write a number and s, m, h, d or w, e.g. 30d")
    return float(found[1]) * SECONDS[found[2]]


def _say(plan: Removal, console: Console) -> None:
    if not len(plan) and not plan.kept:
        return
    console.print(f"[bold]{plan.experiment_id}[/]", soft_wrap=True)
    for kind, found in plan.objects.items():
        if found:
            size = sum(entry.bytes for entry in found.values()) / 1e6
            console.print(f"  remove {len(found):6,d} objects, {size:10,.1f} MB  {kind}", soft_wrap=True)
    for line in plan.kept:
        console.print(f"  [yellow]kept:[/] {line}", soft_wrap=True)
    for line in plan.losses:
        console.print(f"  [yellow]then:[/] {line}", soft_wrap=True)


def _nothing_yet(console: Console) -> None:
    console.print("nothing has been removed; add --yes")
