"""A Prefect server on PostgreSQL behind a password, one worker for the pool `default`, and the deployments."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.local.ports import LOOPBACK
from infra.local.processes import ServiceError, Supervisor

SERVER, WORKER, POOL = "prefect-server", "prefect-worker", "default"
PROJECT = Path(__file__).parents[2]
PREFECT = (sys.executable, "-m", "prefect")


def api_url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}/api"


def start_server(
    supervisor: Supervisor, port: int, environment: Mapping[str, str], password: str, database: str
) -> None:
    """Start the server; the first time it makes its tables."""
    supervisor.start(
        SERVER,
        [*PREFECT, "server", "start", "--host", LOOPBACK, "--port", str(port)],
        {
            **environment,
            "PREFECT_SERVER_API_AUTH_STRING": password,
            "PREFECT_API_DATABASE_CONNECTION_URL": database,
            "PREFECT_SERVER_UI_API_URL": api_url(port),
            "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        },
    )


def wait_for_server(supervisor: Supervisor, port: int) -> None:
    """Wait until it is healthy."""
    supervisor.wait(SERVER, lambda: _healthy(port), 240)


def start_worker(supervisor: Supervisor, environment: Mapping[str, str]) -> None:
    """Start the worker, which makes the pool."""
    supervisor.start(
        WORKER,
        [
            *PREFECT,
            "worker",
            "start",
            "--name",
            "local",
            "--pool",
            POOL,
            "--type",
            "process",
            "--install-policy",
            "never",
        ],
        environment,
        directory=PROJECT,
    )


def wait_for_worker(supervisor: Supervisor, port: int, password: str) -> None:
    """Wait until the server has heard of it."""
    supervisor.wait(WORKER, lambda: _pool_is_ready(port, password), 240)


def register(environment: Mapping[str, str], log: Path) -> None:
    """Make or renew the deployments of prefect.yaml and the automations."""
    program = str(Path(sys.executable).with_name("prefect"))
    with log.open("ab") as output:
        done = subprocess.run(
            [str(PROJECT / "infra" / "register")],
            check=False,
            stdin=subprocess.DEVNULL,
            env={**environment, "PREFECT_BIN": program},
            stdout=output,
            stderr=output,
        )
    if done.returncode:
        raise ServiceError(f"the deployments of prefect.yaml or the automations were refused; see {log}")


def ask(url: str, password: str | None = None) -> Any:
    """What Prefect's API answers to a GET."""
    request = urllib.request.Request(url)
    if password is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(password.encode()).decode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        return json.loads(answer.read())


def _healthy(port: int) -> bool:
    try:
        return bool(ask(f"{api_url(port)}/health"))
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _pool_is_ready(port: int, password: str) -> bool:
    try:
        return bool(ask(f"{api_url(port)}/work_pools/{POOL}", password)["status"] == "READY")
    except (urllib.error.URLError, OSError, ValueError, KeyError):
        return False
