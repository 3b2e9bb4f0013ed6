"""Prefect's temporary server, kept out of the reach of a terminal's Ctrl-C."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

from prefect.server.api import server


@contextmanager
def own_session() -> Iterator[None]:
    """Within it, a server that Prefect starts for a flow leads a session of its own.

    A terminal signals its whole foreground group. A server that dies with the first Ctrl-C leaves the flow retrying
    calls to it for minutes, instead of recording that it was stopped. Prefect still ends the server with the process.
    """
    original = server.subprocess
    server.subprocess = SimpleNamespace(  # type: ignore[assignment]  # this module's name only, nobody else's Popen
        **{**vars(original), "Popen": partial(subprocess.Popen, start_new_session=True)})
    try:
        yield
    finally:
        server.subprocess = original
