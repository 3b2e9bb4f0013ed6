"""A run whose process was killed together with its runner says nothing any more: the automation marks it Crashed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

AUTOMATIONS = Path(__file__).parents[2] / "infra" / "automations.yaml"
PREFECT = Path(sys.executable).with_name("prefect")
HEARTBEAT = 30
"""Seconds; Prefect sends none more often."""
WINDOW = 40
PATIENCE = 240
"""Seconds that anything here may take on a busy machine."""

SLEEPER = """
import time
from prefect import flow

@flow(name="sleeper")
def sleeper(seconds: int = 600):
    time.sleep(seconds)

if __name__ == "__main__":
    sleeper.serve(name="sleeper")
"""


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError(f"{what} did not happen within {PATIENCE} s")


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for a process and everything it started, as when a machine loses its power."""
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            os.kill(member.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait(30)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Prefect server of our own; what its clients need."""
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {
        **inherited,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT),
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(
            [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until(lambda: answers(environment["PREFECT_API_URL"] + "/health"), "the server's start")
        yield environment
    finally:
        kill_tree(server)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def api(environment: dict[str, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=environment["PREFECT_API_URL"], timeout=30, trust_env=False) as client:
        yield client


def prefect(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PREFECT, *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE)


def test_the_file_is_accepted_and_registered_as_written(environment: dict[str, str], api: httpx.Client) -> None:
    written = yaml.safe_load(AUTOMATIONS.read_text())["automations"]
    created = prefect(environment, "automation", "create", "--from-file", str(AUTOMATIONS))
    assert created.returncode == 0, created.stdout + created.stderr
    [registered] = api.post("/automations/filter", json={}).json()
    assert registered["name"] == written[0]["name"]
    assert registered["enabled"]
    assert registered["trigger"]["posture"] == "Proactive"
    assert registered["trigger"]["within"] == written[0]["trigger"]["within"] == 300
    assert registered["actions"][0]["state"] == "CRASHED"
    assert prefect(environment, "automation", "delete", written[0]["name"]).returncode == 0


def test_a_run_killed_with_its_runner_is_marked_crashed_and_a_living_one_is_left_alone(
    environment: dict[str, str], api: httpx.Client, tmp_path: Path
) -> None:
    sooner = yaml.safe_load(AUTOMATIONS.read_text())
    assert sooner["automations"][0]["trigger"]["within"] > 5 * HEARTBEAT  # a lost report or two is no death
    sooner["automations"][0]["trigger"]["within"] = WINDOW
    (tmp_path / "automations.yaml").write_text(yaml.safe_dump(sooner))
    created = prefect(environment, "automation", "create", "--from-file", str(tmp_path / "automations.yaml"))
    assert created.returncode == 0, created.stdout + created.stderr

    runners: list[subprocess.Popen[bytes]] = []

    def runner(name: str) -> subprocess.Popen[bytes]:
        source = tmp_path / f"{name}.py"
        source.write_text(SLEEPER.replace('serve(name="sleeper")', f'serve(name="{name}")'))
        with (tmp_path / f"{name}.log").open("w") as log:
            runners.append(
                subprocess.Popen(
                    [sys.executable, source],
                    env=environment,
                    cwd=tmp_path,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        return runners[-1]

    def started(name: str) -> str:
        deployment = until(lambda: api.get(f"/deployments/name/sleeper/{name}").json().get("id"), f"serving {name}")

        def created() -> str | None:
            answer = api.post(f"/deployments/{deployment}/create_flow_run", json={})
            assert answer.status_code in (201, 503), answer.text  # SQLite may be busy with the other runner
            return str(answer.json()["id"]) if answer.status_code == 201 else None

        return str(until(created, f"a run of {name}"))

    def state(run: str) -> dict[str, Any]:
        return dict(api.get(f"/flow_runs/{run}").json()["state"])

    def heartbeats(run: str) -> int:
        found = api.post(
            "/events/filter",
            json={
                "filter": {
                    "event": {"name": ["prefect.flow-run.heartbeat"]},
                    "resource": {"id": [f"prefect.flow-run.{run}"]},
                }
            },
        )
        return int(found.json()["total"])

    try:
        doomed = runner("doomed")
        runner("living")
        dead, alive = started("doomed"), started("living")
        until(lambda: heartbeats(dead) and heartbeats(alive), "both runs' first report")
        assert state(dead)["type"] == state(alive)["type"] == "RUNNING"
        kill_tree(doomed)
        killed = time.monotonic()
        assert state(dead)["type"] == "RUNNING"  # nobody was left to say otherwise
        until(lambda: state(dead)["type"] == "CRASHED", "marking the killed run")
        print(f"marked after {time.monotonic() - killed:.0f} s, window {WINDOW} s")
        assert "No sign of life" in state(dead)["message"]
        until(lambda: heartbeats(alive) >= 3, "reports of the living run past the window")
        assert state(alive)["type"] == "RUNNING"
    finally:
        for process in runners:
            kill_tree(process)
