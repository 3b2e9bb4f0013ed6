"""The commands of `lth`. Each is thin: read what the user said, call the room that does it, print."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.cli.options import (
    STORE,
    AtMost,
    Batch,
    CohortSize,
    Cores,
    Device,
    GpuShare,
    Levels,
    SaveEvery,
    Seeds,
    Settings,
    Source,
    StoreOption,
    Threads,
    Ticket,
    Trust,
    Until,
    execution_of,
    experiment_of,
    settings,
    until_of,
)
from lth.catalogue import REGISTRIES

if TYPE_CHECKING:
    pass

app = typer.Typer(
    name="lth",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Find lottery tickets at scale: sparse subnetworks that train as well as the dense network.",
)

Listed: Any = Literal[("presets", "experiments", *REGISTRIES)]


@app.command()
def run(
    source: Source,
    seeds: Seeds = "0-4",
    levels: Levels = None,
    store: StoreOption = STORE,
    set_: Settings = None,
    ticket: Ticket = None,
    device: Device = "auto",
    cohort_size: CohortSize = None,
    threads: Threads = 1,
    cores: Cores = None,
    gpu_share: GpuShare = None,
    save_every: SaveEvery = 60,
    figures: Annotated[Path | None, typer.Option(help="Also write the figures into this folder.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Start a very large sweep without asking.")] = False,
    here: Annotated[
        bool, typer.Option("--here", help="In this process, unit after unit, without Prefect and Ray.")
    ] = False,
    trust: Trust = False,
    until_decided: Until = False,
    at_most: AtMost = None,
    batch: Batch = None,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            help="Go on under a new id where your code, torch, the engine or the CPU's instructions are not those that "
            "the experiment began with.",
        ),
    ] = False,
) -> None:
    """Run a sweep: every level and arm for every seed. What the store holds already is not done again."""
    from flows.cli.run import run_sweep

    until = until_of(until_decided, at_most, batch)
    execution = execution_of(device, cohort_size, threads, cores, gpu_share=gpu_share, save_every=save_every)
    experiment, exported = experiment_of(source, set_, levels, store, ticket, trust)
    run_sweep(experiment, seeds, store, execution, figures, yes, exported, here, until, accept_changes)


@app.command()
def plan(
    source: Source,
    seeds: Seeds = "0-4",
    levels: Levels = None,
    store: StoreOption = STORE,
    set_: Settings = None,
    ticket: Ticket = None,
    cohort_size: CohortSize = None,
    cores: Cores = None,
    trust: Trust = False,
    until_decided: Until = False,
    at_most: AtMost = None,
    batch: Batch = None,
) -> None:
    """Say what `run` would do: units, task runs, time and storage. Starts nothing."""
    from flows.cli.plan import print_plan
    from lth.experiment import parse_seeds

    until = until_of(until_decided, at_most, batch)
    experiment, exported = experiment_of(source, set_, levels, store, ticket, trust)
    print_plan(experiment, parse_seeds(seeds), store, cohort_size, cores or os.cpu_count() or 1, exported, until)


@app.command()
def status(
    source: Annotated[
        str | None, typer.Argument(metavar="[PRESET|FILE|ID]", help="Which experiment; all if not given.")
    ] = None,
    store: StoreOption = STORE,
    set_: Settings = None,
) -> None:
    """Planned, committed and diverged trainings by level and arm, as far as the store tells."""
    from flows.cli.inspection import print_status

    print_status(source, store, set_ or [])


@app.command()
def verify(
    source: Annotated[
        str | None, typer.Argument(metavar="[PRESET|FILE|ID]", help="Which experiment; all if not given.")
    ] = None,
    set_aside: Annotated[
        bool,
        typer.Option(
            "--set-aside",
            help="Put units with a damaged or missing object into quarantine, so that the next run does them anew.",
        ),
    ] = False,
    store: StoreOption = STORE,
    set_: Settings = None,
) -> None:
    """Re-read a store: name every object that is damaged, missing, extra, or contradicts another."""
    from flows.cli.inspection import print_verified

    print_verified(source, store, set_ or [], set_aside)


@app.command()
def query(
    sql: Annotated[
        str,
        typer.Argument(
            help="SQL (DuckDB) over the tables levels, metrics, masks, layers, overlap, connectivity, verdicts."
        ),
    ],
    store: StoreOption = STORE,
    experiment: Annotated[str | None, typer.Option(help="Only this experiment's id.")] = None,
    format: Annotated[Literal["table", "csv", "json", "parquet"], typer.Option(help="Output format.")] = "table",
    output: Annotated[Path | None, typer.Option(help="Write to this file (needed for parquet on a terminal).")] = None,
) -> None:
    """Query the result tables with SQL."""
    from flows.cli.query import run_query

    run_query(sql, store, experiment, format, output)


@app.command()
def verdicts(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[PRESET|FILE|ID]", help="Which experiment of the store; its only one if not given."),
    ] = None,
    arm: Annotated[str, typer.Option(help="Which arm is judged.")] = "ticket",
    margin: Annotated[
        float | None,
        typer.Option(
            help="How much worse still matches, as 0.005 of accuracy; another than the declared one is post hoc."
        ),
    ] = None,
    store: StoreOption = STORE,
    set_: Settings = None,
) -> None:
    """Which tickets match the dense network, down to which density, and how sure that is."""
    from flows.cli.analysis import print_verdicts

    print_verdicts(source, store, set_ or [], arm, margin)


@app.command()
def compare(
    sources: Annotated[list[str], typer.Argument(metavar="PRESET|FILE|ID...", help="Experiments of the store.")],
    arm: Annotated[str, typer.Option(help="Which arm of each.")] = "ticket",
    figure: Annotated[Path | None, typer.Option(help="Also draw them on one axis: a .png, .pdf or .svg file.")] = None,
    store: StoreOption = STORE,
) -> None:
    """Experiments side by side: the dense score, the density down to which each matches, and the deepest level."""
    from flows.cli.export import print_comparison

    print_comparison(sources, arm, figure, store)


@app.command()
def report(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[PRESET|FILE|ID]", help="Which experiment of the store; its only one if not given."),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="How much worse still matches, as 0.005 of accuracy; another than the declared one is post hoc."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="HTML file; <id>.html if not given.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Also write every figure into this folder, for print.")] = None,
    format: Annotated[str | None, typer.Option(help="Of those figures: pdf, svg or png; pdf if not given.")] = None,
    store: StoreOption = STORE,
    set_: Settings = None,
    trust: Trust = False,
) -> None:
    """Write one HTML file: the claim, its verdicts and caveats, the figures, and what was run. Opens offline."""
    from flows.cli.export import write_report

    write_report(source, margin, output, figures, format, store, set_ or [], trust)


@app.command()
def export(
    source: Annotated[str, typer.Argument(metavar="PRESET|FILE|ID", help="Which experiment of the store.")],
    seed: Annotated[int, typer.Option(help="Which replicate.")],
    level: Annotated[int, typer.Option(help="Which pruning level; 0 is the dense network.")],
    arm: Annotated[str, typer.Option(help="Which arm.")] = "ticket",
    draw: Annotated[int, typer.Option(help="Which of several draws of the arm.")] = 0,
    format: Annotated[
        list[str] | None,
        typer.Option(help="safetensors, torch, onnx, csr or dense; repeatable. safetensors if not given."),
    ] = None,
    weights: Annotated[Literal["early_stop", "end"], typer.Option(help="Which trained weights.")] = "early_stop",
    output: Annotated[Path | None, typer.Option(help="Folder; named after the ticket if not given.")] = None,
    store: StoreOption = STORE,
    set_: Settings = None,
    device: Device = "auto",
    threads: Threads = 1,
    trust: Trust = False,
) -> None:
    """Take a ticket away: masks, initial and trained weights in a file, with a card that says what it is."""
    from flows.cli.export import export_ticket

    export_ticket(
        source,
        seed,
        level,
        arm,
        draw,
        tuple(format or ("safetensors",)),
        weights,
        output,
        store,
        set_ or [],
        execution_of(device, None, threads, None),
        trust,
    )


@app.command()
def overlap(
    source: Annotated[str, typer.Argument(metavar="PRESET|FILE|ID", help="Which experiment of the store.")],
    between: Annotated[
        Literal["seeds", "arms", "levels"],
        typer.Option(help="Compare masks across seeds of an arm and level, arms of a level, or levels of an arm."),
    ] = "seeds",
    levels: Annotated[str | None, typer.Option(help="Only these levels, as 1,5 or 1-5; else all above 0.")] = None,
    arms: Annotated[str | None, typer.Option(help="Only these arms, as ticket,random_mask.")] = None,
    by_layer: Annotated[bool, typer.Option("--by-layer", help="Print every layer, not the whole network.")] = False,
    store: StoreOption = STORE,
    set_: Settings = None,
) -> None:
    """How much masks have in common (Jaccard), against chance; into the table `overlap`."""
    from flows.cli.analysis import print_overlap

    print_overlap(source, store, set_ or [], between, levels, arms, by_layer)


@app.command()
def connectivity(
    source: Annotated[str, typer.Argument(metavar="PRESET|FILE|ID", help="Which experiment.")],
    seeds: Annotated[str, typer.Option(help="Replicates, as 0-2.")] = "0-2",
    levels: Annotated[str, typer.Option(help="Pruning levels, as 0,7; above 0 they must be committed.")] = "0",
    arms: Annotated[str, typer.Option(help="Arms, as ticket,reinit.")] = "ticket",
    steps: Annotated[
        str | None,
        typer.Option(
            help="Steps of the dense training from which copies part, as 0it,500it; the rewinding step if not given."
        ),
    ] = None,
    copies: Annotated[int, typer.Option(help="Copies of every seed, each with a data order of its own.")] = 3,
    points: Annotated[int, typer.Option(help="Points on the line between two copies.")] = 30,
    batch_norm: Annotated[
        Literal["recompute", "interpolate"],
        typer.Option(help="Batch-norm statistics on the line: measured anew, or interpolated."),
    ] = "recompute",
    splits: Annotated[str, typer.Option(help="Where errors are measured: test, train or test,train.")] = "test",
    store: StoreOption = STORE,
    set_: Settings = None,
    device: Device = "auto",
    cohort_size: CohortSize = None,
    threads: Threads = 1,
    cores: Cores = None,
    trust: Trust = False,
) -> None:
    """Linear mode connectivity: the error barrier between copies of a seed trained in other data orders."""
    from flows.cli.analysis import print_connectivity

    print_connectivity(
        source,
        store,
        set_ or [],
        seeds,
        levels,
        arms,
        steps,
        copies,
        points,
        batch_norm,
        splits,
        execution_of(device, cohort_size, threads, cores),
        trust,
    )


@app.command("list")
def list_(
    what: Annotated[Listed, typer.Argument(help="What to list.")],
    store: StoreOption = STORE,
    imports: Annotated[
        list[str] | None, typer.Option("--imports", help="A module of yours to import first; can be repeated.")
    ] = None,
) -> None:
    """List what can be named in an experiment, or the experiments in a store."""
    from flows.cli.inspection import print_list

    print_list(what, store, imports or [])


@app.command()
def show(
    source: Annotated[
        str, typer.Argument(metavar="PRESET|FILE|ID", help="A preset, a YAML file, or an id of the store.")
    ],
    set_: Settings = None,
    levels: Levels = None,
    store: StoreOption = STORE,
) -> None:
    """Print an experiment with every field filled in, as YAML, and its id."""
    from flows.cli.inspection import print_experiment

    print_experiment(source, settings(set_, levels), store)
