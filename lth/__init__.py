"""Lottery tickets at scale. The science and the storage; knows nothing of Prefect or Ray."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lth.processor import pin_instructions
from lth.version import __version__

pin_instructions()  # before torch computes anything

if TYPE_CHECKING:
    from lth.experiment import Experiment
    from lth.notebook import RunResults
    from lth.tickets import PortableTicket

__all__ = ["__version__", "load_ticket"]


def load_ticket(path: str | Path) -> PortableTicket:
    """A ticket that `lth export` wrote, by its folder or its `ticket.safetensors`; see `lth.tickets.PortableTicket`."""
    from lth.tickets import load_ticket as load

    return load(path)


def run(
    source: str | Path | Experiment,
    seeds: str | Iterable[int] = "0-4",
    *,
    store: str | Path | None = None,
    settings: Sequence[str] = (),
    device: Literal["auto", "cpu", "cuda"] = "auto",
    cohort_size: int | None = None,
    threads: int = 1,
    save_every: float = 60,
    progress: bool = True,
    until_decided: bool = False,
    at_most: int = 100,
    batch: int | None = None,
    accept_changes: bool = False,
) -> RunResults:
    """Run a sweep in this process, without Prefect or Ray, and open its results. What `store` holds already is not
    done again, and a run that was interrupted goes on from where it was saved.

        results = lth.run("digits", seeds=range(5))
        results.pandas("levels")

    `source` is the name of a preset, a YAML file, or an Experiment; `settings` change fields of the first two, as
    `"training.duration=2000it"`. `store` is a folder or `s3://bucket/prefix`, or else LTH_STORE in the environment, or
    `./lth-store`. Units are trained one after another:
    `lth run` uses every core and machine. `threads` are torch's, and on a CPU the last bits of a result depend on
    them. `save_every`: seconds between saves of a training in progress, at most; 0: none. `accept_changes`: go on under
    a new id where your code, torch, the engine or the CPU's instructions are not those that the experiment began with;
    otherwise that is an LthError.

    `until_decided` adds seeds, `batch` at a time (None: as many as at first), until it is decided down to which level
    the ticket matches, or there are `at_most`; its verdicts stay valid however often one looks. Raises
    InvalidExperiment for what cannot be run, before anything trains.
    """
    from lth.notebook import run as run_in_notebook
    from lth.until_decided import UntilDecided

    until = UntilDecided(at_most, batch) if until_decided else None
    return run_in_notebook(
        source, seeds, store, settings, device, cohort_size, threads, save_every, progress, until, accept_changes
    )
