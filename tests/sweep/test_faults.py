"""A sweep that is killed, or whose store fails: one clear line, nothing lost, and in the end the tables of one that was
not disturbed."""

from __future__ import annotations

import datetime
import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stored_tables import tables_of

from lth.data import load_dataset
from lth.errors import StoreError
from lth.experiment import load_experiment
from lth.store import Retries, Store, local_files
from lth.store.claims import Claims
from lth.store.local_files import LocalFiles
from lth.store.verify import verify
from lth.sweep import handover, tables
from lth.sweep.here import run_here

SETTINGS = ["training.duration=40it", "training.evaluate_every=10it", "arms=[ticket, reinit]", "pruning.levels=1"]
EXPERIMENT = load_experiment("smoke", SETTINGS)
SEEDS = (0, 1, 2)
DIGITS = load_dataset("digits")
ONCE = Retries(tries=1)


def run(folder: Path, cohort_size: int | None = None, save_every: float | None = None) -> None:
    run_here(EXPERIMENT, SEEDS, Store(folder, ONCE), DIGITS, cohort_size=cohort_size, save_every=save_every)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder)
    return tables_of(Store(folder), EXPERIMENT)


class Killed(BaseException):
    """Where a process ends without a word."""


def kill_at(monkeypatch: pytest.MonkeyPatch, point: int) -> None:
    """Whoever gives a file its name is killed at a point, and can do nothing from then on: even points lie between the
    writing of an object and its having a name, odd ones between that and whatever follows."""
    passed: list[int] = []

    def maybe() -> None:
        if len(passed) >= point:
            raise Killed
        passed.append(1)

    def patched(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            maybe()
            result = real(*arguments, **options)
            maybe()
            return result

        return call

    for name in ("link", "replace"):
        monkeypatch.setattr(local_files.os, name, patched(name))
    monkeypatch.setattr(LocalFiles, "delete", lambda *_: maybe())
    monkeypatch.setattr(Claims, "__exit__", lambda claims, *_: claims._leaving.set())


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_sweep_that_is_killed_between_any_two_writes_loses_nothing(
    tmp_path: Path, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a commit, of saves, of claims, of the records: each of them, before and after it has its name."""
    points = 0
    for point in range(0, 200, 5):  # every fifth, so that both kinds have their turn
        folder = tmp_path / str(point)
        handover._store.cache_clear()
        kill_at(monkeypatch, point)
        try:
            run(folder, save_every=0.001)
        except Killed:
            monkeypatch.undo()
        else:
            monkeypatch.undo()
            break
        points += 1
        store = Store(folder)
        troubles = {each.trouble for each in verify(store).findings} if store.experiments() else set()
        assert troubles <= {"extra", "missing"}, "a unit is there whole, or not at all"
        assert store.committed(EXPERIMENT.id).damaged == {}
        shutil.rmtree(folder / "claims", ignore_errors=True)  # its process is no more
        run(folder)
        assert tables_of(store, EXPERIMENT) == undisturbed
        shutil.rmtree(folder)
    assert points >= 5


FAILURES = {
    "read-only": (errno.EROFS, "not writable"),
    "no permission": (errno.EACCES, "not writable"),
    "full": (errno.ENOSPC, "no space is left"),
    "over quota": (errno.EDQUOT, "no space is left"),
    "broken": (errno.EIO, "Input/output error"),
}


@pytest.fixture
def fresh_stores() -> Iterator[None]:
    """Stages open their store by its URL and keep it."""
    handover._store.cache_clear()
    yield
    handover._store.cache_clear()


@pytest.mark.usefixtures("fresh_stores")
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("after", [6, 11])
def test_a_store_that_fails_meanwhile_is_said_in_one_line_and_the_next_run_resumes(
    failure: str, after: int, tmp_path: Path, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    number, said = FAILURES[failure]
    real, writes = LocalFiles._temporary, iter(range(10_000))

    def failing(self: LocalFiles, path: Path, data: bytes) -> Any:
        if next(writes) >= after:
            raise OSError(number, os.strerror(number), str(path))
        return real(self, path, data)

    monkeypatch.setattr(LocalFiles, "_temporary", failing)
    monkeypatch.setattr(handover, "Store", lambda url: Store(url, ONCE))
    with pytest.raises(StoreError, match=said) as error:
        run(tmp_path / "store")
    assert "\n" not in str(error.value) and str(tmp_path / "store") in str(error.value)
    monkeypatch.undo()
    handover._store.cache_clear()
    run(tmp_path / "store")
    assert tables_of(Store(tmp_path / "store"), EXPERIMENT) == undisturbed


@pytest.mark.usefixtures("fresh_stores")
@pytest.mark.parametrize("replaced", [False, True])
def test_a_store_that_vanishes_is_not_begun_anew_in_its_place(
    replaced: bool, tmp_path: Path, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, elsewhere = tmp_path / "store", tmp_path / "unmounted"
    real, writes = LocalFiles._temporary, iter(range(10_000))

    def vanishing(self: LocalFiles, path: Path, data: bytes) -> Any:
        if next(writes) == 9:
            folder.rename(elsewhere)
            if replaced:  # as a mount point that has lost its file system
                folder.mkdir()
        return real(self, path, data)

    monkeypatch.setattr(LocalFiles, "_temporary", vanishing)
    monkeypatch.setattr(handover, "Store", lambda url: Store(url, ONCE))
    with pytest.raises(StoreError, match="the folder that was there is gone, or another lies in its place"):
        run(folder)
    monkeypatch.undo()
    assert not folder.exists() or not list(folder.iterdir())
    if folder.exists():
        folder.rmdir()
    elsewhere.rename(folder)
    shutil.rmtree(folder / "claims")  # its process is no more
    handover._store.cache_clear()
    run(folder)
    assert tables_of(Store(folder), EXPERIMENT) == undisturbed


@pytest.mark.usefixtures("fresh_stores")
@pytest.mark.parametrize("clock", ["backwards", "1970", "2106"])
def test_a_clock_that_is_wrong_changes_no_table(
    clock: str, tmp_path: Path, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {"backwards": iter(range(2_000_000_000, 0, -86400)), "1970": None, "2106": None}[clock]

    def now() -> float:
        return float(next(seconds)) if seconds else {"1970": 0.0, "2106": 4.3e9}[clock]

    class Wrong(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return datetime.datetime.fromtimestamp(now(), tz)

    class Module:
        datetime, UTC, timedelta = Wrong, datetime.UTC, datetime.timedelta

    monkeypatch.setattr(tables, "datetime", Module)
    monkeypatch.setattr("lth.store.curated.datetime", Module)
    monkeypatch.setattr(time, "time", now)
    run(tmp_path / "store", cohort_size=2)
    run(tmp_path / "store")
    store = Store(tmp_path / "store")
    assert tables_of(store, EXPERIMENT) == undisturbed
    from lth.store.curated import Curated, compact

    compact(store)
    compact(store)
    assert Curated(store).read("levels").num_rows == 9
    assert not [each for each in verify(store).findings if each.trouble != "extra"]


@pytest.mark.timeout(300)
def test_two_sweeps_of_other_cohort_sizes_at_once_leave_the_same_tables(
    tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    command = [sys.executable, "-c", "from flows.cli import main; main()", "run", "smoke", "--here", "--seeds", "0-2"]
    both = [
        subprocess.Popen(
            [*command, *settings, "--store", str(tmp_path / "store"), "--cohort-size", size],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for size in ("1", "3")
    ]
    assert [(process.communicate(timeout=250)[1], process.returncode)[1] for process in both] == [0, 0]
    store = Store(tmp_path / "store")
    assert tables_of(store, EXPERIMENT) == undisturbed
    assert not [each for each in verify(store).findings if each.trouble != "extra"]


def test_a_sweep_gives_back_what_it_holds_when_it_ends(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with Claims(store.objects, EXPERIMENT.id) as claims:
        claims.take("ticket-L00-s0-0-5feceb66")
        claims.take("ticket-L00-s1-1-6b86b273")
        claims.give_back("ticket-L00-s1-1-6b86b273")
        claims.take("ticket-L00-s2-2-d4735e3a")
    assert store.objects.sizes("claims") == {}
