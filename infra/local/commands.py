"""The commands `infra/local-up` and `infra/local-down`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from infra.local import service
from infra.local.ports import DEFAULTS, LOOPBACK, choose
from infra.local.processes import ServiceError
from infra.local.settings import Options, Service

STATE = Path("infra-state")


def local_up() -> None:
    """Start, and say how to use it."""
    ports = ", ".join(f"{name} {port}" for name, port in DEFAULTS.items())
    parser = argparse.ArgumentParser(description="Start the whole service on this machine: PostgreSQL, Prefect server "
                                     "and worker, Ray head and nodes, an S3 server, the deployments of prefect.yaml. "
                                     "What runs already is left alone.",
                                     epilog=f"Ports on {LOOPBACK}, unless --free-ports: {ports} and one more for each "
                                     "node.")
    parser.add_argument("--state", type=Path, default=STATE, help="folder for data, logs and secrets (%(default)s)")
    parser.add_argument("--nodes", type=int, default=2, help="Ray nodes beside the head (%(default)s)")
    parser.add_argument("--cpus", type=int, default=1, help="cores of each node (%(default)s)")
    parser.add_argument("--store", default="", help="a folder or s3://bucket/prefix instead of an own S3 server")
    parser.add_argument("--no-s3", action="store_true", help="the same as --store STATE/store")
    parser.add_argument("--free-ports", action="store_true", help="ports that are free now instead of the defaults")
    given = parser.parse_args()
    state = given.state.absolute()
    store = given.store or (str(state / "store") if given.no_s3 else "")
    if store and "://" not in store:
        store = str(Path(store).absolute())
    try:
        if given.nodes < 1 or given.cpus < 1:
            raise ServiceError("--nodes and --cpus must be 1 or more")
        started = service.up(state, Options(given.nodes, given.cpus, store), given.free_ports, _tell)
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


def _usage(started: Service) -> None:
    at = choose(started.state, started.options.nodes, False)
    print(f"""
Prefect's UI:    http://{LOOPBACK}:{at['prefect']}  (it asks for PREFECT_API_AUTH_STRING, which is in the file below)
Ray's dashboard: http://{LOOPBACK}:{at['ray-dashboard']}  (it asks for the token in {started.state}/secrets/ray-token)
Logs:            {started.state}/logs and {started.state}/ray/session_latest/logs

    source {started.state}/env
    lth run digits --seeds 0-9

End it with infra/local-down --state {started.state}""")


def _tell(text: str) -> None:
    print(text, flush=True)


def _fail(command: str, error: BaseException) -> None:
    sys.exit(f"{command}: {error if str(error) else 'interrupted; what it had started is ended'}")
