"""What a state folder remembers: its mark, its options, its secrets; and the environments made of them."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.local.loopback_ray import SWITCH
from infra.local.ports import LOOPBACK
from infra.local.prefect_service import api_url
from infra.local.processes import ServiceError

HEAPS = {"MALLOC_ARENA_MAX": "2"}
"""Two of them for all threads of a process, as in `infra/ray`."""

QUIET = {"DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
LONGEST_RAY_FOLDER = 40
"""Ray puts sockets some 65 characters below its folder, and Linux takes 107."""


@dataclass(frozen=True)
class Options:
    """What a service consists of. `cpus`: of each node; `gpus`: of the first. An empty `store` is its own S3 server."""

    nodes: int = 2
    cpus: int = 1
    gpus: int = 0
    store: str = ""


@dataclass(frozen=True)
class Service:
    """A state folder: `mark` is found in the environment of all that was started from it."""

    state: Path
    mark: str
    options: Options
    ray_folder: Path

    def secret(self, name: str) -> str:
        """A random password of this service, made when it is first asked for."""
        path = self.state / "secrets" / name
        if not path.exists():
            write_secret(path, secrets.token_urlsafe(32))
        return path.read_text()

    @property
    def prefect_login(self) -> str:
        return f"lth:{self.secret('prefect')}"

    def for_servers(self) -> dict[str, str]:
        """The environment of Prefect's server and command line: the caller's, without settings of other services."""
        foreign = ("PREFECT_", "RAY_", "AWS_", "LTH_STORE", "PG")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {
            **kept,
            **QUIET,
            **HEAPS,
            "PREFECT_HOME": str(self.state / "prefect"),
            "PREFECT_CLI_PROMPT": "false",
            "PYTHONUNBUFFERED": "1",
        }

    def for_nodes(self, store: Mapping[str, str]) -> dict[str, str]:
        """The environment of Ray's nodes, whose workers write to the store."""
        self.secret("ray-token")
        # Metrics that nobody collects cost time, and memory that grows.
        return {
            **self.for_servers(),
            **store,
            "RAY_enable_metrics_collection": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.state / "secrets" / "ray-token"),
        }

    def for_users(self, ports: Mapping[str, int], store: Mapping[str, str]) -> dict[str, str]:
        """What a person, or Prefect's worker, sets to use the service."""
        return {
            **QUIET,
            **HEAPS,
            **SWITCH,
            **store,
            "PREFECT_API_URL": api_url(ports["prefect"]),
            "PREFECT_API_AUTH_STRING": self.prefect_login,
            "RAY_ADDRESS": f"{LOOPBACK}:{ports['ray']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.state / "secrets" / "ray-token"),
        }

    def write_env(self, environment: Mapping[str, str]) -> Path:
        """The file that a person sources."""
        path = self.state / "env"
        write_secret(path, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()))
        return path


def open_service(state: Path) -> Service | None:
    """The service of a state folder that was used before."""
    try:
        found = json.loads((state / "service.json").read_text())
    except FileNotFoundError:
        return None
    return Service(state, found["mark"], Options(**found["options"]), Path(found["ray_folder"]))


def save_service(state: Path, options: Options) -> Service:
    """The service of a state folder with these options; the folder is made if it is not there."""
    before = open_service(state)
    if before is None and state.exists() and any(path.name != "lock" for path in state.iterdir()):
        raise ServiceError(f"{state} exists and is no service's state folder; choose another --state")
    for name in ("", "run", "logs", "secrets"):
        (state / name).mkdir(mode=0o711 if not name else 0o700, parents=True, exist_ok=True)
    state.chmod(0o711)  # PostgreSQL's user passes through it
    ray_folder = before.ray_folder if before else state / "ray"
    if len(str(ray_folder)) > LONGEST_RAY_FOLDER:
        ray_folder = Path(tempfile.mkdtemp(prefix="lth-ray-"))
        (state / "ray").symlink_to(ray_folder)
    service = Service(state, before.mark if before else secrets.token_hex(16), options, ray_folder)
    (state / "service.json").write_text(
        json.dumps({"mark": service.mark, "options": asdict(options), "ray_folder": str(ray_folder)}, indent=1)
    )
    return service


def write_secret(path: Path, text: str) -> None:
    """A file that nobody else may read, not even for a moment."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
