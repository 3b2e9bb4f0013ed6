"""The whole store suite once more, against a real S3 server, and what only a real one or a bad network can show."""

from __future__ import annotations

import inspect
import multiprocessing
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import psutil
import pytest

pytest.register_assert_rewrite(
    *(
        f"store.test_{name}"
        for name in ("analyses", "claims", "commits", "curated", "damage", "objects", "results", "verify")
    )
)

from faulty_proxy import FaultyProxy  # noqa: E402
from real_s3 import RealS3, object_store  # noqa: E402
from store import (  # noqa: E402
    test_analyses,
    test_claims,
    test_commits,
    test_curated,
    test_damage,
    test_objects,
    test_results,
    test_verify,
)
from store.cohorts import EXPERIMENT, tables  # noqa: E402
from store.conftest import QUICK, SECRET  # noqa: E402
from store.test_claims import now, sweep  # noqa: E402, F401
from store.test_damage import damaged_store  # noqa: E402, F401
from store.test_results import filled  # noqa: E402, F401
from store.test_verify import sound  # noqa: E402, F401

from lth.errors import StoreError  # noqa: E402
from lth.store import Retries, Store, Unit, remote_files  # noqa: E402

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
UNIT = Unit("ticket", 0, 1, (0, 1, 2, 3))


@pytest.fixture
def store(bucket: str) -> Store:
    return Store(f"s3://{bucket}/some/prefix", retries=QUICK)


def on_a_server(module: ModuleType) -> Iterator[tuple[str, Callable[..., None]]]:
    """The tests of `module` that ask for a store or a bucket, rather than for a directory."""
    for name, test in vars(module).items():
        if name.startswith("test_") and {"store", "bucket", "damaged_store", "filled", "sound", "sweep"} & {
            *inspect.signature(test).parameters
        }:
            yield name, test


for suite in (
    test_analyses,
    test_claims,
    test_commits,
    test_curated,
    test_damage,
    test_objects,
    test_results,
    test_verify,
):
    for name, function in on_a_server(suite):
        assert name not in globals(), f"{name} is in two modules"
        globals()[name] = function


def test_sixteen_processes_racing_for_one_key_have_one_winner(store: Store) -> None:
    with multiprocessing.get_context("spawn").Pool(16) as pool:
        # A round in which every process makes its connection, then one in which all of them are ready.
        for each in (Store(f"{store.url}/warm-up", QUICK), store):
            won = pool.starmap(test_objects._race, [(each, number) for number in range(16)], chunksize=1)
            assert won.count(True) == 1
            assert each.read("levels/race") == b"%02d" % won.index(True)


WRONG_KEYS = {
    "another secret": {"AWS_SECRET_ACCESS_KEY": "WRONG-" + SECRET},
    "an unknown key": {"AWS_ACCESS_KEY_ID": "nobody-knows-me", "AWS_SECRET_ACCESS_KEY": "WRONG-" + SECRET},
}


@pytest.mark.parametrize("wrong", WRONG_KEYS)
def test_wrong_keys_are_refused_at_once_in_one_line(store: Store, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    store.create("levels/a", b"1")
    for name, value in WRONG_KEYS[wrong].items():
        monkeypatch.setenv(name, value)
    stranger = Store(store.url, Retries(tries=2, first_wait=3600, longest_wait=3600))  # must not come to a second try
    for attempt in (
        stranger.check_writable,
        lambda: stranger.create("levels/b", b""),
        stranger.experiments,
        lambda: stranger.read("levels/a"),
        lambda: stranger.objects.delete("levels/a"),
        lambda: stranger.committed(EXPERIMENT),
        lambda: stranger.read_checkpoint(EXPERIMENT, "u"),
    ):
        with pytest.raises(StoreError) as caught:
            attempt()
        message = str(caught.value)
        assert "AWS_ACCESS_KEY_ID" in message and "\n" not in message
        assert SECRET not in message and "nobody-knows-me" not in message
    assert store.read("levels/a") == b"1"


def test_nobody_reads_or_writes_without_keys(store: Store, s3_environment: str) -> None:
    store.create("levels/a", b"1")
    path = f"{s3_environment}/{store.objects.location.root}/levels/a"
    for method in ("GET", "PUT", "DELETE", "HEAD"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(path, method=method, data=b"" if method == "PUT" else None))
        assert refused.value.code == 403
    assert store.read("levels/a") == b"1"


def everything(store: Store) -> None:
    """Every request that a store makes, each with the outcome that it must have."""
    assert store.create("levels/a", b"1") and not store.create("levels/a", b"2")
    assert store.read("levels/a") == b"1" and store.read("levels/none") is None
    assert store.objects.sizes("levels") == {"levels/a": 1} and store.objects.folders("quarantine") == []
    store.objects.replace("reports/r", b"3")
    assert store.read("reports/r") == b"3"
    store.objects.delete("levels/a")
    store.objects.delete("levels/a")
    assert store.objects.sizes("levels") == {}


REQUESTS = 12
"""How many requests `everything` makes at least."""


@pytest.mark.parametrize("what", ["503", "bare 503", "reset", "stall", "lose"])
def test_every_request_survives_what_a_network_does(
    proxy: FaultyProxy, bucket: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(remote_files, "READ_TIMEOUT", 1)
    store = Store(f"s3://{bucket}/x", retries=Retries(tries=8, first_wait=0.01, longest_wait=0.02))
    # Twice two in a row pass, because looking for a folder that is not there takes two requests.
    proxy.fail(what, pattern=(True, False, True, True, False, False))
    everything(store)
    assert proxy.struck[what] >= REQUESTS // 2


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("503", r"is failing \((SlowDown|503)\) and did not recover in time; try again later"),
        ("bare 503", r"is failing \(503\) and did not recover in time"),
        ("reset", "cannot reach http://127"),
        ("stall", "cannot reach http://127"),
    ],
)
def test_what_does_not_pass_is_said_in_one_line(
    proxy: FaultyProxy, bucket: str, monkeypatch: pytest.MonkeyPatch, what: str, message: str
) -> None:
    monkeypatch.setattr(remote_files, "READ_TIMEOUT", 1)
    store = Store(f"s3://{bucket}/x", retries=QUICK)
    proxy.fail(what)
    for attempt in (
        lambda: store.create("levels/a", b"1"),
        lambda: store.read("levels/a"),
        lambda: store.objects.sizes("levels"),
        lambda: store.objects.folders("levels"),
    ):
        with pytest.raises(StoreError, match=message) as caught:
            attempt()
        assert "\n" not in str(caught.value) and SECRET not in str(caught.value)
    # aiohttp repeats a request by itself, once, if a connection that it had used before is reset.
    assert 4 * QUICK.tries <= proxy.struck[what] <= 8 * QUICK.tries, "bounded"
    proxy.heal()
    everything(store)


def test_sixteen_writers_that_lose_their_replies_have_one_winner(proxy: FaultyProxy, bucket: str) -> None:
    store = Store(f"s3://{bucket}/x", retries=Retries(tries=12, first_wait=0.01, longest_wait=0.1))
    proxy.fail("lose", pattern=(True, False, True), methods=("PUT",))
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda minutes: store.commit(EXPERIMENT, UNIT, *tables(UNIT, minutes=minutes)), range(16)))
    assert proxy.struck["lose"] > 16 and won.count(True) == 1
    assert store.committed(EXPERIMENT).rows.equals(tables(UNIT, minutes=won.index(True))[0])
    assert store.objects.sizes("quarantine") == {}


def test_what_was_written_outlives_kill_9(radosgw: RealS3, bucket: str) -> None:
    """Of the gateway, of the disk's server, of all at once, each in the middle of writing."""
    store, written = Store(f"s3://{bucket}/x"), []

    def write() -> None:
        while not done.is_set():
            key = f"levels/experiment=e/{len(written):06d}"
            assert store.create(key, key.encode())  # once, whatever happens to the server meanwhile
            written.append(key)

    def wait_for_more() -> None:
        goal, deadline = len(written) + 20, time.monotonic() + 120
        while len(written) < goal and writer.running() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(written) >= goal or writer.result() is None

    done = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        try:
            wait_for_more()
            for names in (["client.rgw"], ["osd.0"], ["client.rgw", "osd.0", "mon.a"]):
                radosgw.kill(*names)
                radosgw.start()
                wait_for_more()
        finally:
            done.set()
            radosgw.start()
        writer.result()
    assert len(written) >= 80
    assert store.objects.sizes("levels") == {key: len(key) for key in written}
    assert all(store.read(key) == key.encode() for key in written[::7])


def test_the_server_is_for_this_user_of_this_machine(radosgw: RealS3) -> None:
    folder, keys = radosgw.folder, object_store.settings(radosgw.folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("s3.env", "keyring", "ceph.conf"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    secret = keys["AWS_SECRET_ACCESS_KEY"].encode()
    holding = [
        path.name
        for path in folder.rglob("*")
        if path.is_file()
        and path.stat().st_size < 2**24
        and path.parent.name in ("log", "run", folder.name)
        and secret in path.read_bytes()
    ]
    assert holding == ["s3.env"], "not in a log"
    listening = {
        address.ip
        for pid in object_store.pids(folder).values()
        for address in (
            found.laddr for found in psutil.Process(pid).net_connections("inet") if found.status == psutil.CONN_LISTEN
        )
    }
    assert listening == {"127.0.0.1"} and len(object_store.pids(folder)) == 3


def test_the_command_says_in_one_line_what_is_wrong(radosgw: RealS3, tmp_path: Path) -> None:
    for arguments, message in (
        (("init", radosgw.folder), "exists; start it"),
        (("start", tmp_path / "none"), "holds no S3 server; make one with init"),
    ):
        done = subprocess.run(
            [sys.executable, object_store.__file__, *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1
    assert len(object_store.pids(radosgw.folder)) == 3
