"""Prefect's temporary server: for this user alone, out of the reach of a terminal's Ctrl-C, and with nothing to do but
to record."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from prefect.server.api import server
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

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
    that ends, leaves out IDLE_SERVICES, and answers nobody who does not know a password that is made here.

    A terminal signals its whole foreground group. A server that dies with the first Ctrl-C leaves the flow retrying
    calls to it for minutes, instead of recording that it was stopped. The password is handed on in the environment,
    which other users cannot read, and is written nowhere.
    """
    password = f"lth:{secrets.token_urlsafe(32)}"

    def start(args: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        idle = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in IDLE_SERVICES}
        login = {"PREFECT_SERVER_API_AUTH_STRING": password, "PREFECT_API_AUTH_STRING": password}
        # Until this process ends, not this block: Prefect says its last words to the server when the process exits.
        reading, _ = os.pipe()
        python, *command = args
        program = str(Path(__file__).with_name("server_process.py"))
        try:
            return subprocess.Popen(
                [python, "-P", program, str(reading), *command],  # -P: nothing beside that file is imported
                env={**idle, **env, **login},
                start_new_session=True,
                pass_fds=[reading],
            )
        finally:
            os.close(reading)

    original = server.subprocess
    # This module's name only, nobody else's Popen.
    server.subprocess = SimpleNamespace(**{**vars(original), "Popen": start})  # type: ignore[assignment]
    with contextlib.ExitStack() as stack:
        stack.callback(setattr, server, "subprocess", original)
        if not PREFECT_API_URL.value():  # else the server that is named has a login of its own
            stack.enter_context(temporary_settings({PREFECT_API_AUTH_STRING: password}))
        yield
