"""The options that commands share, and what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from lth.errors import InvalidExperiment, LthError

if TYPE_CHECKING:
    from lth.experiment import Execution, Experiment
    from lth.until_decided import UntilDecided

Source = Annotated[str, typer.Argument(metavar="PRESET|FILE", help="A preset (`lth list presets`) or a YAML file.")]
Seeds = Annotated[str, typer.Option(help="Replicates, as 0-4 or 0,3,10-12.")]
Levels = Annotated[int | None, typer.Option(help="Pruning levels; overrides pruning.levels.")]
StoreOption = Annotated[str, typer.Option(envvar="LTH_STORE", help="A folder, file://… or s3://bucket/prefix.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a field of the experiment, e.g. training.duration=2000it. Repeatable."
    ),
]
Ticket = Annotated[
    str | None,
    typer.Option(
        metavar="EXPERIMENT|FILE",
        help="Train tickets that were found before on PRESET's data, with controls (ticket "
        "transfer): those of an experiment in the store, or one that `lth export` wrote.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
CohortSize = Annotated[int | None, typer.Option(min=1, help="Seeds per unit; chosen if not given.")]
Threads = Annotated[
    int,
    typer.Option(min=1, help="CPU cores and torch threads per unit; the last bits of results depend on them."),
]
GpuShare = Annotated[float | None, typer.Option(help="Part of a GPU per unit; by its memory if not given.")]
SaveEvery = Annotated[
    float, typer.Option(min=0, help="Seconds between saves of a training in progress, at most; 0: never.")
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Import the code that the store or the ticket names: only if you trust whoever wrote it. Without, nothing "
        "that they name is run.",
    ),
]
Cores = Annotated[int | None, typer.Option(min=1, help="Cores for the local Ray; all if not given.")]
Until = Annotated[
    bool,
    typer.Option(
        "--until-decided",
        help="Add seeds until it is decided down to which level the ticket matches; verdicts stay valid.",
    ),
]
AtMost = Annotated[
    int | None, typer.Option(help="With --until-decided: so many seeds in all, or fewer; 100 if not given.")
]
Batch = Annotated[
    int | None, typer.Option(help="With --until-decided: seeds to add at a time; as many as --seeds if not given.")
]
STORE = "./lth-store"


def experiment_of(
    source: str, set_: list[str] | None, levels: int | None, store: str, ticket: str | None, trust: bool
) -> tuple[Experiment, bytes | None]:
    """The experiment of a command; `ticket` is an experiment in the store, or a file, whose tickets it takes over. The
    content of that file."""
    from lth.experiment import load_experiment
    from lth.experiment.load import import_own
    from lth.store import READING, Store
    from lth.sweep.transfer import taking_over_experiment, taking_over_file, trusted_source

    where = Store(store, READING)
    if ticket is None:
        experiment = load_experiment(source, settings(set_, levels))
        return trusted_source(where, experiment) if trust else experiment, None
    from flows.cli.inspection import id_in

    import_own(source, settings(set_, levels))  # a ticket may name what the user's own file names, too
    file = Path(ticket)
    exported = None
    if file.is_dir() or file.suffix == ".safetensors":
        found, exported = taking_over_file(file, trust)
    else:
        try:
            identifier = id_in(where, ticket, [])
        except LthError as error:
            raise InvalidExperiment(f"--ticket: {error}; or give the folder or file that `lth export` wrote") from None
        found = taking_over_experiment(where, identifier, trust)
    return load_experiment(source, settings(set_, levels), found), exported


def settings(values: list[str] | None, levels: int | None) -> list[str]:
    """`--set` texts with `--levels` as the last."""
    return [*(values or []), *([f"pruning.levels={levels}"] if levels is not None else [])]


def execution_of(
    device: str, cohort_size: int | None, threads: int, cores: int | None, **others: float | None
) -> Execution:
    """The machine options of a command, checked."""
    from lth.experiment import Execution, explain

    if device not in ("auto", "cpu", "cuda"):
        raise InvalidExperiment(f"unknown device {device!r}; choose auto, cpu or cuda")
    try:
        return Execution.model_validate(
            {"device": device, "cohort_size": cohort_size, "threads": threads, "cores": cores, **others}
        )
    except ValidationError as error:
        raise InvalidExperiment(explain(error, Execution)) from None


def until_of(wanted: bool, at_most: int | None, batch: int | None) -> UntilDecided | None:
    """How a command adds seeds, if it does."""
    from lth.until_decided import AT_MOST, UntilDecided

    if not wanted:
        for option, value in (("--at-most", at_most), ("--batch", batch)):
            if value is not None:
                raise InvalidExperiment(f"{option} {value} is about seeds that are added; give --until-decided too")
        return None
    return UntilDecided(AT_MOST if at_most is None else at_most, batch)
