"""Where the servers listen, always on 127.0.0.1: stated defaults, or free ones; kept in the state folder.

Ray chooses the ports of its inner traffic by itself, and so does the S3 server when its folder is made.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from infra.local.processes import ServiceError

LOOPBACK = "127.0.0.1"

DEFAULTS = {
    "prefect": 4200,  # API and UI
    "postgres": 5442,  # Debian's own cluster listens on 5432
    "ray": 6379,  # the head, which drivers and nodes join
    "ray-client": 10001,  # ray:// addresses
    "ray-dashboard": 8265,  # and Ray's job API
    "ray-agent": 52365,  # HTTP of each node's agent: head, then the nodes
}


def choose(state: Path, nodes: int, free: bool) -> dict[str, int]:
    """The ports of this state folder: those it had before, else the defaults, or free ones."""
    record = state / "ports.json"
    wanted = {**DEFAULTS, **{f"ray-agent-{number}": DEFAULTS["ray-agent"] + number for number in range(1, nodes + 1)}}
    known: dict[str, int] = json.loads(record.read_text()) if record.exists() else {}
    missing = [name for name in wanted if name not in known]
    found = {**wanted, **known, **(dict(zip(missing, _free(len(missing)), strict=True)) if free else {})}
    record.write_text(json.dumps(found, indent=1))
    return found


def check_free(ports: dict[str, int], names: Iterable[str]) -> None:
    """Refuse a port that somebody else listens on. Raises ServiceError naming it."""
    for name in names:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, ports[name]))
            except OSError:
                raise ServiceError(
                    f"port {ports[name]} for {name} is taken; end what listens there, or use a new "
                    "--state with --free-ports"
                ) from None


def _free(count: int) -> list[int]:
    with ExitStack() as held:  # all at once, so that none comes twice
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in probes]
