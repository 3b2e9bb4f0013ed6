"""A head and a worker started by infra/ray: joined with the token, refused without, ended with their processes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

SCRIPTS = Path(__file__).parents[2] / "infra" / "ray"
PATIENCE = 180
"""Seconds that anything here may take on a busy machine."""

DRIVER = """
import ray, sys, time
ray.init(address=sys.argv[1], logging_level="ERROR")
deadline = time.monotonic() + 120
while ray.cluster_resources().get("CPU", 0) < 1 and time.monotonic() < deadline:
    time.sleep(0.5)
where = ray.remote(lambda: ray.get_runtime_context().get_node_id()).remote()
print("nodes", sum(node["Alive"] for node in ray.nodes()), "cores", ray.cluster_resources().get("CPU"))
print("ran on", ray.get(where, timeout=120))
"""


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE} s"
        time.sleep(0.3)


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Cluster:
    """A head without cores, and what joins it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        token = folder / "token"
        subprocess.run([SCRIPTS / "new-token", token], check=True, capture_output=True)
        self.port, self.client, self.dashboard, self.agent, *self.agents = free_ports(6)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PREFECT_"))}
        self.stranger = {
            **inherited,
            "HOME": str(folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_BIN": str(Path(sys.executable).with_name("ray")),
            "RAY_NODE_IP": "127.0.0.1",
            "RAY_NUM_CPUS": "1",
            "RAY_NUM_GPUS": "0",
            "RAY_OBJECT_STORE_BYTES": "100000000",
        }
        self.member = {**self.stranger, "RAY_AUTH_TOKEN_PATH": str(token)}
        self.started: list[subprocess.Popen[bytes]] = []
        self.head = self.start(
            "start-head",
            env={
                **self.member,
                "RAY_NUM_CPUS": "0",
                "RAY_TEMP_DIR": str(folder / "t"),
                "RAY_PORT": str(self.port),
                "RAY_CLIENT_PORT": str(self.client),
                "RAY_DASHBOARD_PORT": str(self.dashboard),
                "RAY_AGENT_PORT": str(self.agent),
            },
        )
        until(lambda: listens(self.port) and listens(self.client) and listens(self.dashboard), "the head's start")

    def start(self, script: str, *arguments: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{len(self.started)}.log").open("w") as log:
            self.started.append(
                subprocess.Popen([SCRIPTS / script, *arguments], env=env, stdout=log, stderr=subprocess.STDOUT)
            )
        return self.started[-1]

    def join(self, **environment: str) -> subprocess.Popen[bytes]:
        return self.start(
            "start-worker",
            f"127.0.0.1:{self.port}",
            env={**self.member, "RAY_AGENT_PORT": str(self.agents.pop()), **environment},
        )

    def drive(self, address: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", DRIVER, address],
            env={"RAY_AUTH_MODE": "token", **env},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def end(self) -> None:
        """By process: what the scripts started lives in their trees."""
        family = [
            member
            for process in self.started
            if process.poll() is None
            for member in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        ]
        for member in family:
            if member.is_running():
                member.kill()
        for process in self.started:
            process.wait(30)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="lth-", dir="/tmp"))  # Ray's sockets need a short path
    running = None
    try:
        running = Cluster(folder)
        yield running
    finally:
        if running:
            running.end()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_worker_joins_with_the_token_and_takes_work(cluster: Cluster) -> None:
    cluster.join()
    for address in (f"127.0.0.1:{cluster.port}", f"ray://127.0.0.1:{cluster.client}"):
        driven = cluster.drive(address, cluster.member)
        assert driven.returncode == 0, driven.stderr
        assert "nodes 2 cores 1.0" in driven.stdout  # the head's are not for units
        assert "ran on" in driven.stdout


def test_a_worker_with_another_token_is_refused(cluster: Cluster) -> None:
    refused = cluster.join(RAY_AUTH_TOKEN="0" * 64)
    until(lambda: refused.poll() is not None, "the refusal")
    assert refused.returncode != 0
    assert "InvalidAuthToken" in (cluster.folder / f"{cluster.started.index(refused)}.log").read_text()


@pytest.mark.parametrize("token", [None, "0" * 64], ids=["none", "another"])
@pytest.mark.parametrize("door", ["driver", "client"])
def test_nobody_runs_code_without_the_token(cluster: Cluster, door: str, token: str | None) -> None:
    address = f"127.0.0.1:{cluster.port}" if door == "driver" else f"ray://127.0.0.1:{cluster.client}"
    stranger = {**cluster.stranger, **({"RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_MODE": "disabled"})}
    driven = cluster.drive(address, stranger)
    assert driven.returncode != 0
    assert "ran on" not in driven.stdout


def test_the_dashboard_tells_and_takes_nothing_without_the_token(cluster: Cluster) -> None:
    address = f"http://127.0.0.1:{cluster.dashboard}"
    token = Path(cluster.member["RAY_AUTH_TOKEN_PATH"]).read_text()
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        assert client.get("/api/jobs/").status_code == 401
        assert client.post("/api/jobs/", json={"entrypoint": "true"}).status_code == 401
        assert client.get("/nodes?view=summary").status_code == 401
        assert client.get("/api/jobs/", headers={"Authorization": "Bearer " + "0" * 64}).status_code in (401, 403)
        assert client.get("/api/jobs/", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert httpx.get(f"http://127.0.0.1:{cluster.agent}/api/healthz", trust_env=False, timeout=30).text == (
            "raylet: success\ngcs: success"
        )  # what probes ask, without a token
    places = {
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == cluster.dashboard
    }
    assert places == {"127.0.0.1"}


def test_the_end_of_a_script_is_the_end_of_its_node(cluster: Cluster) -> None:
    for process in [process for process in reversed(cluster.started) if process.poll() is None]:
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        process.terminate()
        until(lambda process=process: process.poll() is not None, "the end of the script")  # type: ignore[misc]
        _, left = psutil.wait_procs(family, timeout=30)
        assert left == []
    assert not listens(cluster.port)
