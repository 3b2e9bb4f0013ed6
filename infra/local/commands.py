"""The commands `infra/local-up` and `infra/local-down`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from infra.local import service
from infra.local.ports import DEFAULTS, LOOPBACK, choose
from infra.local.processes import ServiceError
from infra.local.settings import Options, Service, open_service

STATE = Path("infra-state")
NO_S3 = ""


def local_up() -> None:
    """Start, and say how to use it."""
    ports = ", ".join(f"{name} {port}" for name, port in DEFAULTS.items())
    parser = argparse.ArgumentParser(
        description="Start the whole service on this machine: PostgreSQL, Prefect server "
        "and worker, Ray head and nodes, an S3 server, the deployments of prefect.yaml. "
        "What runs already is left alone; what is not given is as it was the last time.",
        epilog=f"Ports on {LOOPBACK}, unless --free-ports: {ports} and one more for each node.",
    )
    parser.add_argument("--state", type=Path, default=STATE, help="folder for data, logs and secrets (%(default)s)")
    parser.add_argument("--nodes", type=int, help=f"Ray nodes beside the head ({Options.nodes})")
    parser.add_argument("--cpus", type=int, help=f"cores of each node ({Options.cpus})")
    parser.add_argument("--gpus", type=int, help=f"GPUs of the first node ({Options.gpus})")
    parser.add_argument("--store", help="a folder or s3://bucket/prefix instead of an own S3 server")
    parser.add_argument("--no-s3", action="store_const", dest="store", const=NO_S3, help="results in STATE/store")
    parser.add_argument("--free-ports", action="store_true", help="ports that are free now instead of the defaults")
    given = parser.parse_args()
    state = given.state.absolute()
    try:
        started = service.up(state, _options(state, given), given.free_ports, _tell)
    except (ServiceError, KeyboardInterrupt) as error:
        _fail("local-up", error)
    _usage(started)


def local_down() -> None:
    """End it."""
    parser = argparse.ArgumentParser(description="End what local-up started from a state folder, and nothing else.")
    parser.add_argument("--state", type=Path, default=STATE, help="the folder (%(default)s)")
    parser.add_argument("--delete", action="store_true", help="also delete the folder, with all results in it")
    given = parser.parse_args()
    try:
        service.down(given.state.absolute(), given.delete, _tell)
    except (ServiceError, KeyboardInterrupt) as error:
        _fail("local-down", error)


def _options(state: Path, given: argparse.Namespace) -> Options:
    """What is not given is as it was when the state folder was last used."""
    before = open_service(state)
    options = before.options if before else Options()
    for name in ("nodes", "cpus", "gpus", "store"):
        value = getattr(given, name)
        if name == "store" and value is not None and "://" not in value:
            value = str(state / "store" if value == NO_S3 else Path(value).absolute())
        if value is not None:
            options = replace(options, **{name: value})
    if options.nodes < 1 or options.cpus < 1 or options.gpus < 0:
        raise ServiceError("--nodes and --cpus must be 1 or more, --gpus 0 or more")
    return options


def _usage(started: Service) -> None:
    at = choose(started.state, started.options.nodes, False)
    print(f"""
Prefect's UI:    http://{LOOPBACK}:{at["prefect"]}  (it asks for PREFECT_API_AUTH_STRING, which is in the file below)
Ray's dashboard: http://{LOOPBACK}:{at["ray-dashboard"]}  (it asks for the token in {started.state}/secrets/ray-token)
Logs:            {started.state}/logs and {started.state}/ray/session_latest/logs

    source {started.state}/env
    lth run digits --seeds 0-9

End it with infra/local-down --state {started.state}""")


def _tell(text: str) -> None:
    print(text, flush=True)


def _fail(command: str, error: BaseException) -> None:
    sys.exit(f"{command}: {error if str(error) else 'interrupted; what it had started is ended'}")
