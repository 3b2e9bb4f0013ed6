"""Prefect's temporary server ends with the process that started it, whichever way that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

CODE = """
import time
from prefect.server.api.server import SubprocessASGIServer
from flows.local_server import temporary_server
with temporary_server():
    server = SubprocessASGIServer()
    server.start()
    print("started", server.api_url, flush=True)
    time.sleep({seconds})
    server.stop()
"""


def started(seconds: int, home: Path, code: str = CODE) -> tuple[subprocess.Popen[str], list[psutil.Process], str]:
    """A process with a temporary server, all that it started, and the address of the API."""
    process = subprocess.Popen(
        [sys.executable, "-c", code.format(seconds=seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120"},
    )
    assert process.stdout is not None
    word, _, url = process.stdout.readline().strip().partition(" ")
    assert word == "started"
    members = psutil.Process(process.pid).children(recursive=True)
    assert any("uvicorn" in " ".join(member.cmdline()) for member in members)
    return process, members, url


def gone(members: list[psutil.Process], within: float) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in members):
            return True
        time.sleep(0.2)
    return False


@pytest.mark.services
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_flow_takes_its_server_with_it(how: signal.Signals, tmp_path: Path) -> None:
    process, members, _ = started(600, tmp_path)
    process.send_signal(how)
    process.wait(30)
    assert gone(members, 15)


@pytest.mark.services
def test_a_server_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    process, members, _ = started(0, tmp_path)
    assert process.wait(60) == 0
    assert gone(members, 5)


ASKING = CODE.replace(
    "    time.sleep({seconds})",
    """    from prefect.client.orchestration import get_client
    with get_client(sync_client=True) as client:
        print("answered", len(client.read_flows()), flush=True)
    time.sleep({seconds})""",
)


def test_it_answers_its_own_run_and_nobody_else(tmp_path: Path) -> None:
    """Another user of the machine can reach the port; the password stands on no command line and in no file."""
    process, members, url = started(600, tmp_path, ASKING)
    try:
        assert process.stdout is not None and process.stdout.readline() == "answered 0\n"
        for path in ("flows/filter", "flow_runs/filter", "logs/filter"):
            assert httpx.post(f"{url}/{path}", json={}).status_code == 401
            assert httpx.post(f"{url}/{path}", json={}, auth=("lth", "guessed")).status_code == 401
        assert httpx.get(f"{url}/admin/settings").status_code == 401
        (server,) = members
        password = server.environ()["PREFECT_SERVER_API_AUTH_STRING"]
        assert len(password) > 40 and password == server.environ()["PREFECT_API_AUTH_STRING"]
        assert httpx.post(f"{url}/flows/filter", json={}, auth=tuple(password.split(":"))).json() == []
        assert not any(password in " ".join(each.cmdline()) for each in (server, psutil.Process(process.pid)))
        written = [file for file in tmp_path.rglob("*") if file.is_file() and password.encode() in file.read_bytes()]
        assert written == []
    finally:
        process.kill()
        process.wait(30)
    assert gone(members, 15)


def test_nothing_stands_between_a_run_and_its_server_that_could_die_first(tmp_path: Path) -> None:
    process, members, _ = started(600, tmp_path)
    assert [member.ppid() for member in members] == [process.pid]
    process.kill()
    process.wait(30)
    assert gone(members, 15)
