"""Prefect's temporary server ends with the process that started it, whichever way that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

CODE = """
import time
from prefect.server.api.server import SubprocessASGIServer
from flows.local_server import temporary_server
with temporary_server():
    server = SubprocessASGIServer()
    server.start()
    print("started", flush=True)
    time.sleep({seconds})
    server.stop()
"""


def started(seconds: int, home: Path) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A process with a temporary server, and all that it started."""
    process = subprocess.Popen(
        [sys.executable, "-c", CODE.format(seconds=seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"},
    )
    assert process.stdout is not None and process.stdout.readline() == "started\n"
    members = psutil.Process(process.pid).children(recursive=True)
    assert any("uvicorn" in " ".join(member.cmdline()) for member in members)
    return process, members


def gone(members: list[psutil.Process], within: float) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in members):
            return True
        time.sleep(0.2)
    return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_flow_takes_its_server_with_it(how: signal.Signals, tmp_path: Path) -> None:
    process, members = started(600, tmp_path)
    process.send_signal(how)
    process.wait(30)
    assert gone(members, 15)


def test_a_server_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    process, members = started(0, tmp_path)
    assert process.wait(60) == 0
    assert gone(members, 5)
