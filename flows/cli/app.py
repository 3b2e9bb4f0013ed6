"""The commands of `lth`. Each is thin: read what the user said, call the room that does it, print."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError
from rich.console import Console

from lth.errors import InvalidExperiment

app = typer.Typer(
    name="lth", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Find lottery tickets at scale: sparse subnetworks that train as well as the dense network.")

Source = Annotated[str, typer.Argument(metavar="PRESET|FILE", help="A preset (`lth list presets`) or a YAML file.")]
Seeds = Annotated[str, typer.Option(help="Replicates, as 0-4 or 0,3,10-12.")]
Levels = Annotated[int | None, typer.Option(help="Pruning levels; overrides pruning.levels.")]
StoreOption = Annotated[str, typer.Option(envvar="LTH_STORE", help="A folder, file://… or s3://bucket/prefix.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a field of the "
                                                    "experiment, e.g. training.duration=2000it. Repeatable.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
CohortSize = Annotated[int | None, typer.Option(min=1, help="Seeds per unit; chosen if not given.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU cores and torch threads per unit.")]
Cores = Annotated[int | None, typer.Option(min=1, help="Cores for the local Ray; all if not given.")]
STORE = "./lth-store"


def settings(values: list[str] | None, levels: int | None) -> list[str]:
    """`--set` texts with `--levels` as the last."""
    return [*(values or []), *([f"pruning.levels={levels}"] if levels is not None else [])]


@app.command()
def run(
    source: Source,
    seeds: Seeds = "0-4",
    levels: Levels = None,
    store: StoreOption = STORE,
    set_: Settings = None,
    device: Device = "auto",
    cohort_size: CohortSize = None,
    threads: Threads = 1,
    cores: Cores = None,
    figures: Annotated[Path | None, typer.Option(help="Also write the figures into this folder.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Start a very large sweep without asking.")] = False,
) -> None:
    """Run a sweep: every level and arm for every seed. What the store holds already is not done again."""
    from flows.cli.running import run_sweep
    from lth.experiment import Execution, explain, load_experiment

    if device not in ("auto", "cpu", "cuda"):
        raise InvalidExperiment(f"unknown device {device!r}; choose auto, cpu or cuda")
    experiment = load_experiment(source, settings(set_, levels))
    try:
        execution = Execution(device=device, cohort_size=cohort_size, threads=threads, cores=cores)
    except ValidationError as error:
        raise InvalidExperiment(explain(error, Execution)) from None
    run_sweep(experiment, seeds, store, execution, figures, yes)


@app.command()
def plan(
    source: Source,
    seeds: Seeds = "0-4",
    levels: Levels = None,
    store: StoreOption = STORE,
    set_: Settings = None,
    cohort_size: CohortSize = None,
    cores: Cores = None,
) -> None:
    """Say what `run` would do: units, task runs, time and storage. Starts nothing."""
    from flows.cli.planning import print_plan
    from lth.experiment import load_experiment, parse_seeds

    print_plan(load_experiment(source, settings(set_, levels)), parse_seeds(seeds), store, cohort_size,
               cores or os.cpu_count() or 1)


@app.command()
def status(
    source: Annotated[str | None, typer.Argument(metavar="[PRESET|FILE|ID]", help="Which experiment; all if not "
                                                 "given.")] = None,
    store: StoreOption = STORE,
    set_: Settings = None,
) -> None:
    """Planned, committed and diverged trainings by level and arm, as far as the store tells."""
    from flows.cli.inspecting import print_status

    print_status(source, store, set_ or [])


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="SQL (DuckDB) over the tables levels, metrics, masks.")],
    store: StoreOption = STORE,
    experiment: Annotated[str | None, typer.Option(help="Only this experiment's id.")] = None,
    format: Annotated[Literal["table", "csv", "json", "parquet"], typer.Option(help="Output format.")] = "table",
    output: Annotated[Path | None, typer.Option(help="Write to this file (needed for parquet on a terminal).")] = None,
) -> None:
    """Query the result tables with SQL."""
    from flows.cli.inspecting import run_query

    run_query(sql, store, experiment, format, output)


@app.command("list")
def list_(
    what: Annotated[Literal["presets", "datasets", "models", "criteria", "arms", "experiments"],
                    typer.Argument(help="What to list.")],
    store: StoreOption = STORE,
) -> None:
    """List what can be named in an experiment, or the experiments in a store."""
    from flows.cli.inspecting import print_list

    print_list(what, store)


@app.command()
def show(source: Source, set_: Settings = None, levels: Levels = None) -> None:
    """Print an experiment with every field filled in, as YAML, and its id."""
    import yaml

    from lth.experiment import load_experiment

    experiment = load_experiment(source, settings(set_, levels))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"# id: {experiment.id}")
    console.print(yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False), end="")
