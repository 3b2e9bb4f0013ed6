"""The one door to Ray: connect, submit a body with its share of a machine, wait for it, cancel it.

A Prefect task submits one Ray task and waits. Ray never retries by itself (`max_retries=0`): the Prefect task does,
so every attempt is on record.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import ray
from ray._private import ray_constants

from lth.errors import LthError

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1", "RAY_IGNORE_UNHANDLED_ERRORS": "1"}

LOCAL_SETTINGS = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_enable_metrics_collection": "0"}
"""For a Ray that we start. It listens on loopback, as it does by itself on systems where it cannot span machines; and
nobody collects its metrics, which it keeps until somebody does."""


LONGEST_SOCKET = 107
"""Bytes that the name of a Unix socket may have on Linux."""
SOCKET = "/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.1"
"""What Ray puts after the folder for temporary files."""

LOST = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.RayActorError,
    ray.exceptions.LocalRayletDiedError,
    ray.exceptions.TaskCancelledError,
)
"""How Ray says that a worker, a node, or what it held is gone."""


class Stopped(Exception):
    """The sweep was asked to stop while this stage was waiting."""


class WorkerLost(Exception):
    """The worker or node that ran a stage died; the stage can be tried again."""


@dataclass(frozen=True)
class Share:
    """What one stage occupies: CPU cores (also torch's threads) and a part of a GPU."""

    cpus: int = 1
    gpus: float = 0


@dataclass
class Cluster:
    """A connection to Ray. `local`: we started it ourselves. `shared`: RAY_ADDRESS names it, so that it may grow."""

    local: bool
    stopping: threading.Event
    shared: bool = False

    def slots(self, share: Share) -> int:
        """How many stages of this share fit onto the nodes that Ray has now; asked again as a cluster grows."""
        fits = 0
        for node in ray.nodes():
            resources = node["Resources"] if node["Alive"] else {}
            here = int(resources.get("CPU", 0) // share.cpus)
            if share.gpus:
                here = min(here, int(resources.get("GPU", 0) / share.gpus + 1e-9))
            fits += here
        return fits

    def cores_per_gpu(self) -> int:
        """Cores that a node has for each of its GPUs, on the node with the fewest; 0 without GPUs."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
        return min((int(node.get("CPU", 0) // node["GPU"]) for node in nodes), default=0)

    def submit(
        self, name: str, share: Share, function: Callable[..., Any], *arguments: Any
    ) -> tuple[ray.ObjectRef[Any], ray.ObjectRef[Any]]:
        """Start `function(*arguments)`, which returns a pair, on Ray: references to both halves.

        Arguments that are object references are resolved there.
        """
        body = _gpu_body if share.gpus else _cpu_body
        options = body.options(name=name, num_cpus=share.cpus, num_gpus=share.gpus, max_retries=0)
        both: tuple[ray.ObjectRef[Any], ray.ObjectRef[Any]] = options.remote(function, *arguments)
        return both

    def warm(self, share: Share, slots: int) -> list[ray.ObjectRef[Any]]:
        """Begin to start a worker for every slot, imports and all; wait for the references before timing work."""
        return [_warm.options(num_cpus=share.cpus, num_gpus=share.gpus).remote() for _ in range(slots)]

    def wait(self, reference: ray.ObjectRef[Any]) -> Any:
        """The result of a body. Raises WorkerLost, Stopped, or what the body raised."""
        while True:
            if self.stopping.is_set():
                if not self.local:  # a local Ray ends with the sweep, and its workers with it
                    with contextlib.suppress(Exception):
                        ray.cancel(reference, force=True)
                raise Stopped
            done, _ = ray.wait([reference], timeout=1, fetch_local=False)
            if done:
                return result(reference)


def result(reference: ray.ObjectRef[Any]) -> Any:
    """Fetch a finished body's result, with Ray's many errors told apart."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, LOST):  # an argument of this stage was lost with the node that held it
            raise WorkerLost(_first_line(cause)) from None
        if isinstance(cause, LthError):
            raise cause from None
        raise (cause if isinstance(cause, Exception) else error) from error
    except ray.exceptions.OutOfMemoryError as error:
        raise WorkerLost(f"Ray killed the worker for lack of memory: {_first_line(error)}") from None
    except LOST as error:
        raise WorkerLost(_first_line(error)) from None


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _body(function: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
    both: tuple[Any, Any] = function(*arguments)
    return both


_cpu_body = ray.remote(num_returns=2)(_body)
# A worker that has used a GPU keeps its memory and, on a machine with several, its device: one task each.
_gpu_body = ray.remote(num_returns=2, max_calls=1)(_body)


@ray.remote
def _warm() -> None:
    """Most of a worker's start is importing torch; the pause lets every slot take one of these."""
    import tasks.remote  # noqa: F401

    time.sleep(0.2)


class _Counter:
    def __init__(self) -> None:
        self.steps = 0

    def add(self, steps: int) -> None:
        self.steps += steps

    def total(self) -> int:
        return self.steps


class StepCounter:
    """Seed-steps that all workers have trained so far, for a display. Asking never waits; losing it loses nothing."""

    def __init__(self) -> None:
        counter: Any = ray.remote(num_cpus=0)(_Counter)
        self.actor: Any = counter.remote()
        self._asked = self.actor.total.remote()
        self._known = 0

    def total(self) -> int:
        """The newest total that has arrived."""
        with contextlib.suppress(Exception):
            if ray.wait([self._asked], timeout=0)[0]:
                self._known = ray.get(self._asked)
                self._asked = self.actor.total.remote()
        return self._known


@contextlib.contextmanager
def stopped_by_signals(cluster: Cluster) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask the sweep to stop at its next safe point; a second one interrupts at once.

    An interrupt raised in the middle of a call into Ray leaves its C++ side in a state that it aborts on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if cluster.stopping.is_set():
            signal.default_int_handler(number, frame)
        cluster.stopping.set()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _check_reachable(address: str) -> None:
    """Refuse a cluster that does not answer; Ray itself would end the whole process from C++ after half a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # none, `local` or `auto`
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        raise LthError(
            f"no Ray cluster answers at RAY_ADDRESS={address} ({error.strerror or error}); start it, mend "
            "the address, or unset RAY_ADDRESS for a local Ray"
        ) from None


@contextlib.contextmanager
def connected(cpus: int | None = None) -> Iterator[Cluster]:
    """Ray for the length of a sweep: the cluster at RAY_ADDRESS, or a local one of `cpus` cores, ended afterwards.

    Raises LthError when RAY_ADDRESS names a cluster that cannot be reached.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.ERROR)  # it announces on stderr that its token authentication is on
    address = os.environ.get("RAY_ADDRESS", "")
    _check_reachable(address)
    already = ray.is_initialized()
    shared = address not in ("", "local")
    with contextlib.ExitStack() as stack:
        if not already:
            folder = None
            if not shared:
                stack.enter_context(_local_settings())
                folder = stack.enter_context(short_folder())
            try:
                if shared:
                    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
                else:
                    # Never a bare init: it would look for, and hang on, the remains of another cluster.
                    ray.init(
                        address="local",
                        num_cpus=cpus,
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                        configure_logging=False,
                        _temp_dir=folder,
                    )
            except Exception as error:
                where = f"at RAY_ADDRESS={address}" if address else "on this machine"
                raise LthError(
                    f"Ray {where} could not be reached or started: {_first_line(error)}; check that the "
                    "cluster runs and, if it asks for a token, RAY_AUTH_MODE=token and the token"
                ) from None
            stack.callback(ray.shutdown)
        yield Cluster(local=not already and not shared, stopping=threading.Event(), shared=shared)


@contextlib.contextmanager
def short_folder() -> Iterator[str | None]:
    """A folder for the files of our own Ray where those for temporary files have too long a name for its sockets; None
    where they have not. It is removed afterwards."""
    usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    if len(os.fsencode(os.path.abspath(usual))) + len(SOCKET) <= LONGEST_SOCKET:
        yield None
        return
    try:
        folder = tempfile.mkdtemp(prefix="lth-ray-", dir="/tmp")
    except OSError as error:
        raise LthError(
            f"TMPDIR is {usual}, too long for Ray's sockets (at most {LONGEST_SOCKET - len(SOCKET)} characters), and "
            f"/tmp cannot be used instead ({error.strerror}); set RAY_TMPDIR to a short folder"
        ) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _local_settings() -> Iterator[None]:
    """LOCAL_SETTINGS, unless the environment has others, for as long as our own Ray runs."""
    before = {name: os.environ.get(name) for name in LOCAL_SETTINGS}
    spans_machines = ray_constants.ENABLE_RAY_CLUSTER
    for name, value in LOCAL_SETTINGS.items():
        os.environ.setdefault(name, value)
    ray_constants.ENABLE_RAY_CLUSTER = os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] != "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = spans_machines
        for name, was in before.items():
            if was is None:
                os.environ.pop(name, None)
