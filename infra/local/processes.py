"""Processes of the service: started with a log and a record of who they are, found again, and ended. Linux only.

A process is known by its id and its start time, so that a number that was given to another one since is never ended.
Whatever a process starts inherits a mark in its environment, by which orphans are found as well.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MARK = "LTH_SERVICE"
"""The variable whose value, random for each state folder, all processes of a service carry."""


class ServiceError(Exception):
    """What a person can mend, in one line."""


@dataclass(frozen=True)
class Process:
    """A process that was running when it was looked at. `started` counts clock ticks since the machine booted."""

    pid: int
    started: int

    def alive(self) -> bool:
        return _process_of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it is still there."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def _status(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat after the name; None where there is no such process, or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else fields


def _process_of(pid: int) -> Process | None:
    fields = _status(pid)
    return Process(pid, int(fields[19])) if fields else None


def _title(process: Process) -> str:
    try:
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        return b" ".join(words).decode(errors="replace")[:60].strip()
    except OSError:
        return str(process.pid)


def all_processes() -> dict[Process, int]:
    """Every process of this machine with the id of its parent."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _status(int(entry))):
            parents[Process(int(entry), int(fields[19]))] = int(fields[1])
    return parents


def belongs(process: Process, mark: str, sessions: Container[int], folders: Sequence[Path]) -> bool:
    """Whether a process carries the mark, or is of one of these sessions and has a file below the folders open.

    Ray's workers write their titles over their environment; they are told by their session and their logs.
    """
    place = Path(f"/proc/{process.pid}")
    try:
        if f"{MARK}={mark}".encode() in (place / "environ").read_bytes().split(b"\0"):
            return True
        if os.getsid(process.pid) not in sessions:
            return False
        opened = [os.readlink(file) for file in (place / "fd").iterdir()]
    except OSError:
        return False  # somebody else's, or gone
    return any(name.startswith(f"{folder}/") for name in opened for folder in folders)


def descendants(of: Iterable[Process]) -> list[Process]:
    """Children, their children and so on; parents come first."""
    parents = all_processes()
    found = [process for process in of if process in parents]
    for process in found:  # grows while it is read
        found += [child for child, parent in parents.items() if parent == process.pid and child not in found]
    return found


def wait_for(condition: Callable[[], bool], seconds: float, every: float = 0.2) -> bool:
    """Poll until the condition holds; False if it never did."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def end(processes: Sequence[Process], patience: float) -> None:
    """Ask politely, wait for some seconds, then kill."""
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 30.0)):
        for process in processes:
            process.send(number)
            if number == signal.SIGTERM:
                process.send(signal.SIGCONT)  # one that was stopped would never read the request
        if wait_for(lambda: not any(process.alive() for process in processes), seconds, 0.05):
            return


class Supervisor:
    """Starts processes of one state folder, and remembers them there: `run/NAME.json` and `logs/NAME.log`."""

    def __init__(self, state: Path, mark: str) -> None:
        self.state = state
        self.mark = mark
        self.begun: list[str] = []
        """Names of what this object started, in order."""

    def log(self, name: str) -> Path:
        return self.state / "logs" / f"{name}.log"

    def running(self, name: str) -> Process | None:
        """The process of that name, if it still runs."""
        try:
            process = Process(**json.loads(self._record(name).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return process if process.alive() else None

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        user: str | None = None,
        directory: Path | None = None,
    ) -> Process:
        """Start a process in a session of its own, so that a terminal's Ctrl-C does not reach it."""
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(
                command,
                env={**environment, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=user,
                group=user,
                extra_groups=[] if user else None,
                start_new_session=True,
                cwd=directory or self.state,
            )
        process = _process_of(child.pid)
        self.begun.append(name)
        if process is None:
            raise ServiceError(f"{name} ended at once; see {self.log(name)}")
        self._record(name).write_text(json.dumps(asdict(process)))
        with self._sessions_file.open("a") as sessions:
            sessions.write(f"{process.pid}\n")
        return process

    def wait(self, name: str, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until a process that was started answers. Raises ServiceError if it ends, or not in time."""
        process = self.running(name)
        if not wait_for(lambda: ready() or not (process and process.alive()), seconds):
            raise ServiceError(f"{name} did not answer within {seconds:.0f} s; see {self.log(name)}")
        if not (process and process.alive()):
            raise ServiceError(f"{name} ended while it started; see {self.log(name)}")

    def stop(self, name: str, patience: float = 10) -> bool:
        """End a process and all that it started; whether there was one."""
        process = self.running(name)
        if process is not None:
            family = descendants([process])
            end([process], patience)  # it may end its own children in good order
            end(family, patience)
        self._record(name).unlink(missing_ok=True)
        return process is not None

    def stop_rest(self, folders: Sequence[Path]) -> list[str]:
        """End whatever else there is of this service: orphans of what was killed. Returns their titles."""
        found = [
            process
            for process in all_processes()
            if process.pid != os.getpid() and belongs(process, self.mark, self._sessions(), folders)
        ]
        titles = [_title(process) for process in found]
        end(found, 5)
        return titles

    def _sessions(self) -> list[int]:
        """Ids of all sessions that this state folder ever began."""
        return [int(line) for line in self._sessions_file.read_text().split()] if self._sessions_file.exists() else []

    @property
    def _sessions_file(self) -> Path:
        return self.state / "run" / "sessions"

    def _record(self, name: str) -> Path:
        return self.state / "run" / f"{name}.json"
