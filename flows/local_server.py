"""Prefect's temporary server: out of the reach of a terminal's Ctrl-C, and with nothing to do but to record."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from prefect.server.api import server

IDLE_SERVICES = (
    "CANCELLATION_CLEANUP",
    "CLEANUP_RECONCILER",
    "FOREMAN",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "REPOSSESSOR",
    "SCHEDULER",
    "TRIGGERS",
)
"""What a server does for schedules, workers and automations, every few seconds; the command has none of them."""


@contextmanager
def temporary_server() -> Iterator[None]:
    """Within it, a server that Prefect starts for a flow leads a session of its own, ends with this process however
    that ends, and leaves out IDLE_SERVICES.

    A terminal signals its whole foreground group. A server that dies with the first Ctrl-C leaves the flow retrying
    calls to it for minutes, instead of recording that it was stopped.
    """

    def start(args: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        idle = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in IDLE_SERVICES}
        guard = [sys.executable, "-E", "-S", str(Path(__file__).with_name("guard.py")), str(os.getpid())]
        return subprocess.Popen([*guard, *args], env={**idle, **env}, start_new_session=True)

    original = server.subprocess
    # This module's name only, nobody else's Popen.
    server.subprocess = SimpleNamespace(**{**vars(original), "Popen": start})  # type: ignore[assignment]
    try:
        yield
    finally:
        server.subprocess = original
