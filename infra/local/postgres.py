"""PostgreSQL for Prefect: Debian's programs, data in the state folder, password login over loopback, no socket file."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from infra.local.ports import LOOPBACK
from infra.local.processes import ServiceError, Supervisor

NAME = "postgres"
USER = "prefect"


def programs() -> Path:
    """The folder of the newest PostgreSQL. Raises ServiceError with the package to install."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise ServiceError("PostgreSQL is not installed; apt-get install --no-install-recommends postgresql")
    return found[-1].parent


def url(port: int, password: str) -> str:
    return f"postgresql+asyncpg://{USER}:{password}@{LOOPBACK}:{port}/postgres"


def start(supervisor: Supervisor, port: int, password: str) -> None:
    """Make the data folder if there is none, start the server, wait until it answers."""
    binaries, data = programs(), supervisor.state / "postgres"
    user = _unprivileged(data)
    if not (data / "PG_VERSION").exists():
        _make(binaries, data, password, user)
    options = [
        f"--{name}={value}"
        for name, value in {
            "listen_addresses": LOOPBACK,
            "port": port,
            "unix_socket_directories": "",
            "max_connections": 100,
            "log_statement": "none",
            "log_min_duration_statement": -1,
            "log_parameter_max_length_on_error": 0,
        }.items()
    ]
    supervisor.start(
        NAME, [str(binaries / "postgres"), "-D", str(data), *options], {"LC_ALL": "C.UTF-8"}, user=user, directory=data
    )
    ask = [str(binaries / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(port), "-U", USER, "-d", "postgres"]
    supervisor.wait(NAME, lambda: subprocess.run(ask, check=False).returncode == 0, 120)


def _unprivileged(data: Path) -> str | None:
    """The user to run as: PostgreSQL refuses root."""
    if os.geteuid():
        return None
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        raise ServiceError(
            "PostgreSQL does not run as root, and there is no user postgres; start this as another user"
        ) from None
    data.mkdir(mode=0o700, exist_ok=True)
    os.chown(data, user.pw_uid, user.pw_gid)
    if subprocess.run(
        ["test", "-x", str(data)], user="postgres", group="postgres", extra_groups=[], check=False
    ).returncode:
        raise ServiceError(
            f"the user postgres may not enter {data}; choose a --state below folders that all users "
            "may enter, or start this as another user than root"
        )
    return "postgres"


def _make(binaries: Path, data: Path, password: str, user: str | None) -> None:
    reader, writer = os.pipe()  # the password is on no command line and in no file
    if user is not None:
        os.fchown(reader, pwd.getpwnam(user).pw_uid, -1)
    os.write(writer, f"{password}\n".encode())
    os.close(writer)
    made = subprocess.run(
        [
            str(binaries / "initdb"),
            "-D",
            str(data),
            "-U",
            USER,
            "--auth=scram-sha-256",
            "--pwfile=/dev/stdin",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ],
        stdin=reader,
        capture_output=True,
        text=True,
        check=False,
        user=user,
        group=user,
        extra_groups=[] if user else None,
        cwd=data.parent,
    )
    os.close(reader)
    if made.returncode:
        for half in data.glob("*"):
            shutil.rmtree(half) if half.is_dir() else half.unlink()
        reason = next((line for line in reversed(made.stderr.splitlines()) if line.strip()), "no reason given")
        raise ServiceError(f"initdb failed: {reason}")
