"""The whole service of `infra/local-up` on free ports, once for the test session."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from real_s3 import object_store

PROJECT = Path(__file__).parents[2]
LTH = Path(sys.executable).with_name("lth")
PATIENCE = 240
"""Seconds that anything here may take on a busy machine."""


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """What `condition` returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.1)
    return found


def bare_environment() -> dict[str, str]:
    """The environment without settings of any service."""
    foreign = ("PREFECT_", "RAY_", "AWS_", "LTH_STORE", "LTH_SERVICE")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def local(command: str, state: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `infra/local-up` or `infra/local-down`."""
    return subprocess.run(
        [sys.executable, str(PROJECT / "infra" / command), "--state", str(state), *options],
        env=bare_environment(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@dataclass(frozen=True)
class LocalService:
    """A running service, as the person sees it who started it."""

    state: Path
    printed: str

    @property
    def environment(self) -> dict[str, str]:
        """What a shell has after `source STATE/env`."""
        lines = shlex.split((self.state / "env").read_text())
        return {**bare_environment(), **dict(word.split("=", 1) for word in lines if "=" in word)}

    def secret(self, name: str) -> str:
        return (self.state / "secrets" / name).read_text()

    def secrets(self) -> dict[str, str]:
        """Every secret of the service by name."""
        found = {path.name: path.read_text() for path in (self.state / "secrets").iterdir()}
        found["s3"] = self.environment.get("AWS_SECRET_ACCESS_KEY", "")
        return {name: value for name, value in found.items() if value}

    def process(self, name: str) -> psutil.Process:
        """A part of the service: prefect-server, ray-node-1, …"""
        return psutil.Process(json.loads((self.state / "run" / f"{name}.json").read_text())["pid"])

    def up(self) -> str:
        """Start what does not run, as it was started before."""
        done = local("local-up", self.state)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def lth(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """The command line with the service's environment, in a process of its own."""
        return subprocess.Popen(
            [str(LTH), *arguments],
            env={**self.environment, **settings},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )

    def run(self, *arguments: str, **settings: str) -> str:
        """What such a command prints; it has to succeed."""
        process = self.lth(*arguments, **settings)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        return output

    def api(self, method: str, path: str, content: Any = None, login: str | None = None) -> httpx.Response:
        """An answer of Prefect's API."""
        found = self.environment
        user, _, password = (login or found["PREFECT_API_AUTH_STRING"]).partition(":")
        return httpx.request(
            method, found["PREFECT_API_URL"] + path, json=content, auth=(user, password), timeout=60, trust_env=False
        )

    def ray_tasks(self) -> list[dict[str, Any]]:
        """Every Ray task that the cluster knows: name, state, node_id, job_id, worker_pid."""
        return self.ray_api("/api/v0/tasks?limit=10000&detail=true")

    def ray_api(self, path: str) -> list[dict[str, Any]]:
        """Rows of Ray's state API."""
        port = json.loads((self.state / "ports.json").read_text())["ray-dashboard"]
        answer = httpx.get(
            f"http://127.0.0.1:{port}{path}",
            timeout=60,
            trust_env=False,
            headers={"Authorization": f"Bearer {self.secret('ray-token')}"},
        )
        answer.raise_for_status()
        return list(answer.json()["data"]["result"]["result"])


def _options() -> list[str]:
    return ["--no-s3"] if object_store.missing_programs() else []


def new_state() -> Path:
    """A folder for a service's state. PostgreSQL's user has to pass, and Ray's sockets need a short name."""
    folder = Path(tempfile.mkdtemp(prefix="lth-"))
    folder.chmod(0o711)
    return folder / "state"


@pytest.fixture(scope="session")
def service() -> Iterator[LocalService]:
    """PostgreSQL, Prefect server and worker, a Ray head, two nodes of one core, and an S3 server where there is one."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        pytest.skip("PostgreSQL is not installed")
    state = new_state()
    try:
        done = local("local-up", state, "--free-ports", *_options())
        logs = "".join(f"\n{log.name}:\n{log.read_text()[-2000:]}" for log in sorted((state / "logs").glob("*.log")))
        assert done.returncode == 0, done.stderr + logs
        yield LocalService(state, done.stdout)
    finally:
        if state.exists():
            local("local-down", state, "--delete")
        shutil.rmtree(state.parent, ignore_errors=True)


def family(processes: Mapping[str, psutil.Process]) -> list[psutil.Process]:
    """Processes with all their descendants."""
    found = []
    for process in processes.values():
        found += [process, *process.children(recursive=True)]
    return found
