"""Running a sweep or a flow from the command line: a live display, an own server where none is named, a clean stop."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from lth.display import Display
from lth.errors import LthError
from lth.experiment import Experiment
from lth.sweep.progress import LISTENER, Phase, tell

if TYPE_CHECKING:
    from lth.data.examples import DataSet

T = TypeVar("T")


def data_before_start(experiment: Experiment) -> DataSet | None:
    """What mistakes can be found with before Prefect and Ray are started; None where reading the data takes long."""
    if experiment.dataset.name == "parquet" or os.environ.get("RAY_ADDRESS", "local") != "local":
        return None
    return experiment.dataset.load()


def run_shown(start: Callable[[], T], experiment: Experiment, console: Console, kept: str) -> T:
    """What `start` returns, under a display. Ctrl-C says what is `kept` and how to resume, and is raised again."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Display(console, experiment) as display:
            token = LISTENER.set(display.listen)
            try:
                return start()
            finally:
                LISTENER.reset(token)
    except KeyboardInterrupt:
        console.print(f"\n[bold]Stopped.[/] {kept} Resume with:")
        console.print("  " + shlex.join(["lth", *sys.argv[1:]]), soft_wrap=True, markup=False)
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)


def run_flow(start: Callable[[], T], experiment: Experiment, console: Console, kept: str) -> T:
    """`run_shown` of a flow, with a server of its own where none is named."""

    def served() -> T:
        tell(Phase("starting Prefect and Ray"))
        from flows.local_server import temporary_server

        with temporary_server():
            return _with_server(start)

    return run_shown(served, experiment, console, kept)


def _with_server(run: Callable[[], T]) -> T:
    """Run the flow; a Prefect server that cannot be reached is a mistake to be mended, not a crash."""
    import httpx

    try:
        return run()
    except (RuntimeError, httpx.HTTPError) as error:
        if "Failed to reach API" not in str(error) and not isinstance(error, httpx.HTTPError):
            raise
        where = os.environ.get("PREFECT_API_URL", "its own temporary server")
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (401, 403):
            raise LthError(
                f"the Prefect server at {_without_secrets(where)} refuses our login; set "
                "PREFECT_API_AUTH_STRING to what the server asks for"
            ) from None
        raise LthError(
            f"Prefect's API does not answer at {_without_secrets(where)}; start the server, mend "
            "PREFECT_API_URL, or unset it"
        ) from None


def _without_secrets(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return scheme + separator + rest.rpartition("@")[2]
