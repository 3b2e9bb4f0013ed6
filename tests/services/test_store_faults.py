"""A sweep through what befalls a store: nothing lost, nothing there twice, the tables those of an undisturbed run."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulty_proxy import FaultyProxy
from real_s3 import RealS3
from store.conftest import SECRET
from stored_tables import tables_of

import lth.results
from lth.data import load_dataset
from lth.errors import StoreError
from lth.experiment import Experiment, load_experiment
from lth.store import Store, content_hash
from lth.sweep.here import run_here

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
SETTINGS = ("name=faults", "arms=[ticket, reinit]")
SEEDS, UNITS = (0, 1), 10
"""Each seed is a cohort of its own: the dense network, then two levels of two arms."""


@functools.cache
def experiment() -> Experiment:
    return load_experiment("smoke", SETTINGS)


def sweep(store: Store) -> None:
    run_here(experiment(), SEEDS, store, load_dataset("digits"), cohort_size=1)


SWEEP_ELSEWHERE = f"""
import sys
from lth.data import load_dataset
from lth.experiment import load_experiment
from lth.store import Store
from lth.sweep.here import run_here
run_here(load_experiment("smoke", {SETTINGS!r}), {SEEDS!r}, Store(sys.argv[1]), load_dataset("digits"), cohort_size=1)
"""


def contents(store: Store) -> dict[str, object]:
    """The content of all tables without what may differ from run to run, and the names of all objects but those that
    are kept no longer than they are needed."""
    found, hashes = store.committed(experiment().id), dict[str, object](tables_of(store, experiment()))
    layers, damaged = store.read_analysis("layers", experiment().id)
    assert not damaged
    hashes["layers"] = content_hash(layers.sort_by("arm").sort_by("level"), layers.column_names)
    assert (found.rows.num_rows, len(found.units)) == (UNITS, UNITS)
    hashes["objects"] = [
        key
        for kind in ("levels", "metrics", "masks", "layers", "quarantine", "probes")
        for key in sorted(store.objects.sizes(kind))
    ]
    return hashes


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    store = Store(tmp_path_factory.mktemp("undisturbed"))
    sweep(store)
    return contents(store)


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"not within 120 s: {what}"
        time.sleep(0.02)


def during(store: Store, disturb: Callable[[], None], *, after: Callable[[], object]) -> None:
    """A sweep in which `disturb` happens as soon as `after` is true."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            sweep(store)
        except BaseException as error:
            failed.append(error)

    sweeping = threading.Thread(target=run)
    sweeping.start()
    try:
        wait_for(lambda: after() or not sweeping.is_alive(), "the moment to disturb")
        assert sweeping.is_alive(), failed
        disturb()
    finally:
        sweeping.join()
    assert not failed, failed


def commits(proxy: FaultyProxy) -> int:
    """How many units have been committed by now."""
    return sum(method == "PUT" and "/levels/" in path for method, path in proxy.requests)


def test_a_store_that_refuses_writes_for_30_seconds(
    proxy: FaultyProxy, bucket: str, undisturbed: dict[str, object]
) -> None:
    store, begun = Store(f"s3://{bucket}/x"), time.monotonic()
    during(store, lambda: proxy.fail("503", seconds=30, methods=("PUT",)), after=lambda: commits(proxy) >= 2)
    assert time.monotonic() - begun > 30 and 4 <= proxy.struck["503"] < 10, "tried now and then, not all the time"
    assert contents(store) == undisturbed


def test_a_store_that_loses_every_other_reply_to_a_write(
    proxy: FaultyProxy, bucket: str, undisturbed: dict[str, object]
) -> None:
    store = Store(f"s3://{bucket}/x")
    proxy.fail("lose", methods=("PUT",), pattern=(True, False))
    sweep(store)
    assert proxy.struck["lose"] >= 4 * UNITS
    assert contents(store) == undisturbed


@pytest.mark.parametrize("what", ["refuses writes for 30 s", "loses replies", "both, for two sweeps at once"])
def test_the_command_with_prefect_and_ray_comes_through_as_well(
    proxy: FaultyProxy, bucket: str, undisturbed: dict[str, object], what: str
) -> None:
    """`lth run`, whose workers are Ray's and whose tasks Prefect retries: what the tasks above do in one process."""
    store = Store(f"s3://{bucket}/x")
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    if what != "refuses writes for 30 s":
        proxy.fail("lose", methods=("PUT",), pattern=(True, False))
    command = [
        str(Path(sys.executable).with_name("lth")),
        "run",
        "smoke",
        "--seeds",
        "0-1",
        "--cohort-size",
        "1",
        "--store",
        store.url,
        *settings,
    ]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2 if "two" in what else 1)
    ]
    if what != "loses replies":
        wait_for(lambda: commits(proxy) >= 2 or running[0].poll() is not None, "two commits")
        proxy.fail("503", seconds=30, methods=("PUT",))
    for process in running:
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0, output
        assert SECRET not in output
    assert proxy.struck["503" if "refuses" in what else "lose"] >= 4
    assert contents(store) == undisturbed
    assert not store.objects.sizes("claims"), "all were given back"


def test_a_store_of_which_nothing_can_be_relied_on(
    proxy: FaultyProxy, bucket: str, undisturbed: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """Throttled, cut off and left without replies, in reading, listing and deleting too."""
    store = Store(f"s3://{bucket}/x")
    proxy.fail("503", pattern=(False,) * 6 + (True,))
    proxy.fail("reset", pattern=(False,) * 10 + (True,))
    proxy.fail("lose", pattern=(False,) * 4 + (True,))
    with caplog.at_level("INFO", "lth"):
        sweep(store)
        assert contents(store) == undisturbed
    assert all(proxy.struck[what] >= 5 for what in ("503", "reset", "lose"))
    assert "trying again in" in caplog.text and SECRET not in caplog.text


def test_a_store_that_is_killed_and_comes_back(
    radosgw: RealS3, bucket: str, proxy: FaultyProxy, undisturbed: dict[str, object]
) -> None:
    def kill_and_start() -> None:
        radosgw.kill("client.rgw", "osd.0")
        radosgw.start()

    store = Store(f"s3://{bucket}/x")
    during(store, kill_and_start, after=lambda: commits(proxy) >= 2)
    assert contents(store) == undisturbed


def test_a_store_that_stays_away_ends_the_sweep_in_one_line_and_the_next_run_resumes(
    proxy: FaultyProxy, bucket: str, undisturbed: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lth.store.objects.Retries.waits", lambda _: iter([0.01, 0.01]))
    store = Store(f"s3://{bucket}/x")
    proxy.fail("503", path=f"/metrics/experiment%3D{experiment().id}/ticket-L02-s0", methods=("PUT",))
    with pytest.raises(StoreError, match=r"cannot write metrics/.*ticket-L02-s0.* is failing \(SlowDown\)") as caught:
        sweep(store)
    assert "\n" not in str(caught.value) and SECRET not in str(caught.value)
    committed = store.committed(experiment().id)
    assert 0 < len(committed.units) < UNITS and not committed.damaged
    proxy.heal()
    before = commits(proxy)
    sweep(store)
    assert commits(proxy) - before == UNITS - len(committed.units), "only what was missing"
    assert contents(store) == undisturbed


@pytest.fixture
def elsewhere() -> Iterator[Callable[[Store], subprocess.Popen[bytes]]]:
    """Starts the same sweep in a process of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def start(store: Store) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", SWEEP_ELSEWHERE, store.url], stderr=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("late", ["metrics", "masks", "checkpoints", "levels"])
def test_a_stopped_writer_comes_back_after_its_unit_was_redone(
    s3_environment: str,
    proxy: FaultyProxy,
    bucket: str,
    undisturbed: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    elsewhere: Callable[[Store], subprocess.Popen[bytes]],
    late: str,
) -> None:
    """SIGSTOP in the middle of a commit, with a PUT on its way that arrives only after others did all the work."""
    store = Store(f"s3://{bucket}/x")
    proxy.fail("hold", methods=("PUT",), path=f"/{late}/experiment%3D{experiment().id}/ticket-L0{late == 'masks':d}-s0")
    writer = elsewhere(store)
    wait_for(lambda: proxy.struck["hold"] or writer.poll() is not None, "the writer's PUT")
    assert writer.poll() is None, writer.stderr and writer.stderr.read()
    writer.send_signal(signal.SIGSTOP)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_environment)  # the other one is not behind the proxy
    sweep(store)
    assert contents(store) == undisturbed
    proxy.heal()
    writer.send_signal(signal.SIGCONT)
    _, complaint = writer.communicate(timeout=300)
    assert writer.returncode == 0, complaint.decode()
    assert contents(store) == undisturbed


def test_a_stopped_writer_to_a_directory_comes_back(
    tmp_path: Path, undisturbed: dict[str, object], elsewhere: Callable[[Store], subprocess.Popen[bytes]]
) -> None:
    store = Store(tmp_path / "store")
    writer = elsewhere(store)
    wait_for(lambda: store.objects.sizes("levels") or writer.poll() is not None, "the writer's first commit")
    writer.send_signal(signal.SIGSTOP)
    sweep(store)
    writer.send_signal(signal.SIGCONT)
    _, complaint = writer.communicate(timeout=300)
    assert writer.returncode == 0, complaint.decode()
    assert contents(store) == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB: a third of what the sweep needs."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=200k,mode=700", "lth-test"]
    if (
        os.geteuid()
        or not shutil.which("mount")
        or subprocess.run(["mount", *options, str(disk)], check=False, capture_output=True).returncode
    ):
        pytest.skip("may not mount a small file system")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True, timeout=60)


def test_a_full_disk_ends_the_sweep_in_one_line_and_a_freed_one_resumes_it(
    small_disk: Path, undisturbed: dict[str, object]
) -> None:
    store = Store(small_disk / "store")
    with pytest.raises(StoreError, match=rf"^store {store.url}: cannot write .*: no space is left; free") as caught:
        sweep(store)
    assert "\n" not in str(caught.value)
    assert not list(small_disk.rglob("*.tmp")), "what could not be finished is cleared away"
    found = store.committed(experiment().id)
    assert 0 < len(found.units) < UNITS and not found.damaged
    results = lth.results.open(store.url)
    assert results.query("SELECT count(*) AS n FROM levels").to_pylist() == [{"n": len(found.units)}]
    assert results.metrics.num_rows > 0 and results.masks.num_rows > 0 and not results.damaged
    written = {path: path.read_bytes() for path in small_disk.rglob("*.parquet") if "/levels/" in str(path)}
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    sweep(store)
    assert contents(store) == undisturbed
    assert all(path.read_bytes() == content for path, content in written.items()), "nothing was done twice"
