"""A real S3 server on one machine: Ceph's monitor, one OSD and radosgw, in one folder, listening on loopback only.

    python infra/local/object_store.py init FOLDER [--bucket lth]     once, and starts it; FOLDER must not exist
    python infra/local/object_store.py start FOLDER
    python infra/local/object_store.py stop FOLDER

What was written survives kill -9 of all three programs. Clients read their settings from `FOLDER/s3.env` (mode 600):
`set -a; . FOLDER/s3.env`. Needs Debian's packages radosgw, ceph-mon, ceph-osd and ceph-common.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph-authtool", "ceph")
DAEMONS = {
    "mon.a": ("ceph-mon", "-i", "a"),
    "osd.0": ("ceph-osd", "-i", "0"),
    "client.rgw": ("radosgw", "-n", "client.rgw"),
}
"""In the order of their start. They are stopped in the other: an OSD without its monitor hangs."""

WAIT_SECONDS = 180
"""How long a step may take on a slow machine; a quick one needs seconds."""

CONFIGURATION = """[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_v2}/0,v1:127.0.0.1:{mon_v1}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
public network = 127.0.0.0/8
ms bind ipv6 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = {folder}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail warn = 3
mon data avail crit = 1
osd objectstore = bluestore
bluestore block size = {bytes}
bluestore block create = true
osd memory target = 1073741824
osd class load list = *
osd class default list = *
run dir = {folder}/run
admin socket = {folder}/run/$name.$pid.asok
log file = {folder}/log/$name.log
pid file = {folder}/run/$name.pid
mon data = {folder}/mon
osd data = {folder}/osd
[client.rgw]
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{s3} tcp_nodelay=1
rgw dns name = localhost
debug rgw = 0
"""
# tcp_nodelay: without it a GET takes 44 ms instead of 2.

CAPABILITIES = {
    "mon.": ["mon", "allow *"],
    "client.admin": ["mon", "allow *", "osd", "allow *", "mgr", "allow *"],
    "client.rgw": ["mon", "allow rw", "osd", "allow rwx"],
    "osd.0": ["mon", "allow profile osd", "osd", "allow *", "mgr", "allow profile osd"],
}


class ObjectStoreError(Exception):
    """What a person has to mend, in one line."""


def missing_programs() -> list[str]:
    """The programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


def init(folder: Path, *, bucket: str = "lth", gigabytes: int = 20) -> None:
    """Makes the server's folder, with random keys and an empty bucket, and leaves the server running.

    The file that holds all objects grows up to `gigabytes` (2^30 bytes); it begins sparse.
    """
    folder = folder.absolute()
    if missing_programs():
        raise ObjectStoreError(
            f"{', '.join(missing_programs())} not found; apt-get install --no-install-recommends "
            "radosgw ceph-mon ceph-osd ceph-common"
        )
    if folder.exists():
        raise ObjectStoreError(f"{folder} exists; start it, or remove it and all that is stored in it")
    folder.mkdir(mode=0o700, parents=True)
    for name in ("run", "log", "mon", "osd", "rgw"):
        (folder / name).mkdir()
    fsid, ports = str(uuid.uuid4()), _free_ports(3)
    _write_secret(
        folder / "ceph.conf",
        CONFIGURATION.format(
            fsid=fsid, folder=folder, bytes=gigabytes * 2**30, mon_v2=ports[0], mon_v1=ports[1], s3=ports[2]
        ),
    )
    _write_secret(folder / "keyring", "")
    for name, granted in CAPABILITIES.items():
        pairs = [option for place in range(0, len(granted), 2) for option in ("--cap", *granted[place : place + 2])]
        _run(folder, "ceph-authtool", str(folder / "keyring"), "--gen-key", "-n", name, *pairs)
    monitors = f"[v2:127.0.0.1:{ports[0]},v1:127.0.0.1:{ports[1]}]"
    _run(folder, "monmaptool", "--create", "--fsid", fsid, "--addv", "a", monitors, str(folder / "monmap"))
    _run(folder, "ceph-mon", "-i", "a", "--mkfs", "--monmap", str(folder / "monmap"))
    try:
        _start(folder, "mon.a")
        _run(folder, "ceph", "auth", "import", "-i", str(folder / "keyring"))
        osd = str(uuid.uuid4())
        _run(folder, "ceph", "osd", "new", osd, "0")
        _run(folder, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        _start(folder, "osd.0")
        _run(folder, "ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=localhost")
        user = json.loads(
            _run(folder, "radosgw-admin", "-n", "client.rgw", "user", "create", "--uid", "lth", "--display-name", "lth")
        )  # makes random keys: none is ever on a command line
        keys = user["keys"][0]
        _write_secret(
            folder / "s3.env",
            f"AWS_ENDPOINT_URL=http://127.0.0.1:{ports[2]}\n"
            f"AWS_ACCESS_KEY_ID={keys['access_key']}\nAWS_SECRET_ACCESS_KEY={keys['secret_key']}\n"
            "AWS_REGION=us-east-1\n",
        )
        _start(folder, "client.rgw")
        _wait_for_s3(folder)
        _make_bucket(folder, bucket)
    except BaseException:
        stop(folder)
        raise


def start(folder: Path) -> None:
    """Starts what does not run yet, and returns when the server answers."""
    folder = folder.absolute()
    settings(folder)
    for name in DAEMONS:
        if name not in pids(folder):
            _start(folder, name)
    _wait_for_s3(folder)


def stop(folder: Path) -> None:
    """Stops what runs; a program that does not end in time is killed, which costs no data."""
    folder = folder.absolute()
    for name in reversed(DAEMONS):
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + 30
            while (pid := pids(folder).get(name)) and time.monotonic() < deadline:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
                time.sleep(0.1)


def pids(folder: Path) -> dict[str, int]:
    """The process of each program of this folder that runs: `mon.a`, `osd.0`, `client.rgw`."""
    found = {}
    for name, (program, *_) in DAEMONS.items():
        with suppress(OSError, ValueError):
            pid = int((folder / "run" / f"{name}.pid").read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")  # empty for one that is dead but not reaped
            # The number may have been given to another process since.
            if words[0] == program.encode() and bytes(folder.absolute() / "ceph.conf") in words:
                found[name] = pid
    return found


def settings(folder: Path) -> dict[str, str]:
    """What clients need in their environment; it holds the secret key."""
    try:
        lines = (folder / "s3.env").read_text().splitlines()
    except FileNotFoundError:
        raise ObjectStoreError(f"{folder} holds no S3 server; make one with init") from None
    return dict(line.split("=", 1) for line in lines)


def _start(folder: Path, name: str) -> None:
    """Returns when the program has become a daemon, which is after it could open its data."""
    program, *options = DAEMONS[name]
    if name == "osd.0":
        # After kill -9 the monitor believes it up at its old address, and radosgw would try that for ten seconds.
        _run(folder, "ceph", "osd", "down", "0")
    _run(folder, program, *options)
    deadline = time.monotonic() + WAIT_SECONDS
    while name == "osd.0" and not json.loads(_run(folder, "ceph", "osd", "stat", "-f", "json"))["num_up_osds"]:
        if time.monotonic() > deadline:
            raise ObjectStoreError(f"the OSD did not come up in {WAIT_SECONDS} s; see {folder}/log")
        time.sleep(0.2)


def _run(folder: Path, program: str, *options: str) -> str:
    """The program's output. Its complaints go to a file, because daemons keep that open."""
    with open(folder / "log" / "start.log", "ab") as log, open(folder / "run" / "output", "w+b") as output:
        try:
            done = subprocess.run(
                [program, "-c", str(folder / "ceph.conf"), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                timeout=WAIT_SECONDS,
                check=False,
                cwd=folder,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise ObjectStoreError(f"{program} did not answer for {WAIT_SECONDS} s; see {folder}/log") from None
        if done.returncode:
            raise ObjectStoreError(f"{program} ended with {done.returncode}; see {folder}/log")
        output.seek(0)
        return output.read().decode()


def _wait_for_s3(folder: Path) -> None:
    address, begun = settings(folder)["AWS_ENDPOINT_URL"], time.monotonic()
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < begun + WAIT_SECONDS:
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError), direct.open(address, timeout=5) as reply:
            if reply.status == 200:
                return
        # It writes its number only some time after it went into the background.
        if time.monotonic() > begun + 15 and "client.rgw" not in pids(folder):
            raise ObjectStoreError(f"radosgw ended while starting; see {folder}/log")
        time.sleep(0.1)
    raise ObjectStoreError(f"radosgw did not answer for {WAIT_SECONDS} s; see {folder}/log")


def _make_bucket(folder: Path, bucket: str) -> None:
    import botocore.session

    found = settings(folder)
    client = botocore.session.Session().create_client(
        "s3",
        region_name=found["AWS_REGION"],
        endpoint_url=found["AWS_ENDPOINT_URL"],
        aws_access_key_id=found["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=found["AWS_SECRET_ACCESS_KEY"],
    )
    client.create_bucket(Bucket=bucket)


def _write_secret(path: Path, text: str) -> None:
    """A file that nobody else may read, not even for a moment."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _free_ports(count: int) -> list[int]:
    """Ports outside the range from which outgoing connections take theirs, because a server keeps its own for good."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(20000, 32000), 500):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise ObjectStoreError("no free ports between 20000 and 32000")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["init", "start", "stop"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bucket", default="lth", help="for init: the bucket to make")
    given = parser.parse_args()
    try:
        if given.action == "init":
            init(given.folder, bucket=given.bucket)
        else:
            {"start": start, "stop": stop}[given.action](given.folder)
    except ObjectStoreError as error:
        sys.exit(f"object store: {error}")


if __name__ == "__main__":
    main()
