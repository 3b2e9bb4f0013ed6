"""A Ray head without cores and worker nodes, each with its own processes, resources and ports, behind a token."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from infra.local.loopback_ray import SWITCH
from infra.local.ports import LOOPBACK
from infra.local.processes import ServiceError, Supervisor

HEAD = "ray-head"
OBJECT_STORE_BYTES = {HEAD: 256 * 2**20}
NODE_OBJECT_STORE_BYTES = 2**30
SCRIPT = Path(__file__).with_name("loopback_ray.py")


def node_name(number: int) -> str:
    return f"ray-node-{number}"


def start_head(supervisor: Supervisor, ports: Mapping[str, int], environment: Mapping[str, str], folder: Path) -> None:
    """The head runs no training: it holds the cluster's records, drivers and dashboard."""
    _start(
        supervisor,
        HEAD,
        environment,
        [
            "--head",
            "--num-cpus=0",
            "--num-gpus=0",
            f"--node-name={HEAD}",
            f"--port={ports['ray']}",
            f"--ray-client-server-port={ports['ray-client']}",
            f"--dashboard-host={LOOPBACK}",
            f"--dashboard-port={ports['ray-dashboard']}",
            f"--dashboard-agent-listen-port={ports['ray-agent']}",
            f"--temp-dir={folder}",
        ],
    )


def start_node(
    supervisor: Supervisor,
    number: int,
    cpus: int,
    gpus: int,
    ports: Mapping[str, int],
    environment: Mapping[str, str],
    folder: Path,
) -> None:
    """One more node, as if on a machine of its own; `number` counts from 1."""
    _start(
        supervisor,
        node_name(number),
        environment,
        [
            f"--address={LOOPBACK}:{ports['ray']}",
            f"--num-cpus={cpus}",
            f"--num-gpus={gpus}",
            f"--node-name={node_name(number)}",
            f"--dashboard-agent-listen-port={ports[f'ray-agent-{number}']}",
            f"--temp-dir={folder}",
        ],
    )


def wait_for(
    supervisor: Supervisor,
    name: str,
    start: Callable[[], None],
    ports: Mapping[str, int],
    environment: Mapping[str, str],
) -> None:
    """Wait until the cluster counts a node, or the head, as alive; one that gives up is started again, twice.

    A node gives up when the head has not taken note of it within 30 s, which Ray does not let one change; on a machine
    where everything starts at once that is short.
    """
    for again in (True, True, False):
        try:
            supervisor.wait(name, lambda: name in alive(ports, environment), 240)
            break
        except ServiceError:
            if not again or supervisor.running(name):
                raise
            start()


def alive(ports: Mapping[str, int], environment: Mapping[str, str]) -> list[str]:
    """Names of the nodes that the head counts as alive; none while it does not answer."""
    try:
        rows = dashboard(ports, environment, "/api/v0/nodes")["data"]["result"]["result"]
    except (urllib.error.URLError, OSError, ValueError, KeyError, TypeError):
        return []
    return [row["node_name"] for row in rows if row["state"] == "ALIVE"]


def dashboard(ports: Mapping[str, int], environment: Mapping[str, str], path: str) -> Any:
    """What the dashboard's API answers to a GET."""
    token = Path(environment["RAY_AUTH_TOKEN_PATH"]).read_text().strip()
    request = urllib.request.Request(
        f"http://{LOOPBACK}:{ports['ray-dashboard']}{path}", headers={"Authorization": f"Bearer {token}"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        return json.loads(answer.read())


def _start(supervisor: Supervisor, name: str, environment: Mapping[str, str], options: list[str]) -> None:
    memory = OBJECT_STORE_BYTES.get(name, NODE_OBJECT_STORE_BYTES)
    supervisor.start(
        name,
        [
            sys.executable,
            str(SCRIPT),
            "start",
            "--block",
            "--disable-usage-stats",
            f"--node-ip-address={LOOPBACK}",
            "--include-log-monitor=false",  # it only carries workers' prints to drivers, and no flow listens
            f"--object-store-memory={memory}",
            "--log-color=false",
            *options,
        ],
        {**environment, **SWITCH},
    )
