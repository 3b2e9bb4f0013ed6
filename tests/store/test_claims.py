"""Claims: one sweep at a unit at a time, unless it is gone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event, Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lth.errors import StoreError
from lth.store import Store, claims
from lth.store.claims import LAPSE, Claims, Owner
from lth.store.unit import claim_key, sweep_claim_key

EXPERIMENT, UNIT = "digits-0123456789", "ticket-L00-s0-3-01234567"

Sweep = Callable[[], Claims]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock of those who watch shows."""
    shown = [1000.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: shown[0])
    return shown


@pytest.fixture
def sweep(store: Store) -> Iterator[Sweep]:
    """Makes sweeps that run and count only when they are told to."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Claims(store.objects, EXPERIMENT, beat=3600))


def put_elsewhere(sweep: Claims) -> None:
    """Onto a machine of its own, of whose processes others know nothing."""
    sweep.owner = replace(sweep.owner, machine=f"machine of {sweep.owner.sweep}")
    sweep._mark = json.dumps(vars(sweep.owner)).encode()


def waits(watcher: Claims, now: list[float], seconds: float) -> Owner | None:
    """The answer after asking again and again for that long."""
    until = now[0] + seconds
    while now[0] < until:
        watcher.take(UNIT)
        now[0] = min(now[0] + 5, until)
    return watcher.take(UNIT)


def test_a_unit_is_one_sweeps_until_it_is_given_back(sweep: Sweep) -> None:
    one, other = sweep(), sweep()
    assert one.take(UNIT) is None
    assert one.take(UNIT) is None, "a sweep's own claim is no obstacle: it may try again"
    assert other.take(UNIT) == one.owner
    assert other.take("ticket-L01-s0-3-01234567") is None
    one.give_back(UNIT)
    assert other.take(UNIT) is None
    assert one.take(UNIT) == other.owner


def test_of_many_at_once_one_takes_the_unit(sweep: Sweep) -> None:
    sweeps, together = [sweep() for _ in range(8)], Barrier(8)
    found = {}

    def take(number: int) -> None:
        together.wait()
        found[number] = sweeps[number].take(UNIT)

    threads = [Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [number for number, owner in found.items() if owner is None]
    assert len(winners) == 1
    assert {owner for owner in found.values() if owner} == {sweeps[winners[0]].owner}


def test_a_sweep_that_counts_keeps_its_units_and_one_that_does_not_loses_them(sweep: Sweep, now: list[float]) -> None:
    one, other = sweep(), sweep()
    put_elsewhere(one)
    one.take(UNIT)
    for number in range(5):
        assert waits(other, now, LAPSE - 1) == one.owner
        one._count(number + 1)
    assert waits(other, now, LAPSE - 1) == one.owner
    assert waits(other, now, 1) is None
    one._count(9)  # it was only stopped: what was taken from it stays taken, whatever it does
    one.give_back(UNIT)
    assert one.take(UNIT) == other.owner


def test_who_begins_to_watch_waits_for_the_whole_lapse(sweep: Sweep, now: list[float]) -> None:
    """However old a claim is: clocks of others are not asked."""
    one, other = sweep(), sweep()
    put_elsewhere(one)
    one.take(UNIT)
    now[0] += 1e6
    assert waits(other, now, LAPSE - 1) == one.owner
    now[0] += 1e6  # and who could not look for a while, through an outage or his own sleep, begins again
    assert waits(other, now, LAPSE - 1) == one.owner
    assert waits(other, now, 1) is None


def test_one_host_name_is_not_one_machine(sweep: Sweep, now: list[float]) -> None:
    """A container of the same name has processes of its own, which are not looked for here."""
    one, other = sweep(), sweep()
    put_elsewhere(one)
    one.owner = replace(one.owner, process=2**22 + 1)
    one._mark = json.dumps(vars(one.owner)).encode()
    one.take(UNIT)
    assert one.owner.host == other.owner.host
    assert other.take(UNIT) == one.owner


def test_a_sweep_that_has_left_holds_nothing(store: Store, sweep: Sweep) -> None:
    with Claims(store.objects, EXPERIMENT) as one:
        put_elsewhere(one)
        one.take(UNIT)
    assert sweep().take(UNIT) is None


def test_a_process_of_this_machine_that_is_gone_holds_nothing(store: Store, sweep: Sweep) -> None:
    script = (
        "import os, sys; from lth.store import Store\n"
        f"claims = Store(sys.argv[1]).claims({EXPERIMENT!r}).__enter__()\n"
        f"assert claims.take({UNIT!r}) is None; os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script, store.url], check=False).returncode == 9
    assert store.objects.sizes(f"claims/experiment={EXPERIMENT}/sweeps")
    assert sweep().take(UNIT) is None
    assert len(store.objects.sizes(f"claims/experiment={EXPERIMENT}/sweeps")) == 1, "its count was removed"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"sweep": "x"}',
        *(
            json.dumps({"sweep": name, "host": "", "process": process, "machine": ""}).encode()
            for name, process in (("x", "y"), ("a/b", 1), ("", 1))
        ),
        b'{"sweep": "x", "host": "", "process": 1e999, "machine": ""}',
    ],
)
def test_a_damaged_claim_is_nobodys(content: bytes, store: Store, sweep: Sweep) -> None:
    store.create(claim_key(EXPERIMENT, UNIT), content)
    assert sweep().take(UNIT) is None


def test_a_sweep_counts_by_itself_and_leaves_nothing(store: Store) -> None:
    with Claims(store.objects, EXPERIMENT, beat=0.01) as one:
        key = sweep_claim_key(EXPERIMENT, one.owner.sweep)
        seen, until = set(), time.monotonic() + 20
        while len(seen) < 3 and time.monotonic() < until:
            seen.add(store.read(key))
        assert len(seen) == 3
        one.take(UNIT)
        one.give_back(UNIT)
    assert not store.objects.sizes(f"claims/experiment={EXPERIMENT}")


def refuse(*_: object) -> None:
    raise PermissionError(13, "refused")


def test_a_store_that_refuses_to_write_stops_no_sweep(
    store: Store, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, files = sweep(), type(store.objects.files)
    with monkeypatch.context() as patch:
        patch.setattr(files, "replace", refuse)
        patch.setattr(files, "delete", refuse)
        with Claims(store.objects, EXPERIMENT, beat=0.01) as other:
            time.sleep(0.1)
            assert other._thread.is_alive()
        patch.setattr(files, "create", refuse)
        with pytest.raises(StoreError):
            one.take(UNIT)


def test_what_could_not_be_given_back_is_given_back_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    key = claim_key(EXPERIMENT, UNIT)
    with Claims(store.objects, EXPERIMENT, beat=0.01) as one:
        one.take(UNIT)
        with monkeypatch.context() as patch:
            patch.setattr(type(store.objects.files), "delete", refuse)
            one.give_back(UNIT)
            time.sleep(0.1)
            assert store.read(key) is not None
        until = time.monotonic() + 20
        while store.read(key) is not None and time.monotonic() < until:
            time.sleep(0.01)
        assert store.read(key) is None


def test_while_the_store_cannot_tell_a_refused_unit_stays_refused(
    store: Store, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = sweep(), sweep()
    one.take(UNIT)
    assert other.take(UNIT) == one.owner
    with monkeypatch.context() as patch:
        patch.setattr(type(store.objects.files), "read", refuse)
        assert other.take(UNIT) == one.owner
    one.give_back(UNIT)
    assert other.take(UNIT) is None


def test_a_unit_that_is_given_back_while_another_asks_is_the_others(tmp_path: Path) -> None:
    """On a disk a name may go between the attempt to take it and the look at who has it; a thousand times."""
    store = Store(tmp_path)
    with Claims(store.objects, EXPERIMENT, beat=3600) as one, Claims(store.objects, EXPERIMENT, beat=3600) as other:
        ended = Event()

        def take_and_give_back() -> None:
            try:
                for _ in range(1000):
                    if one.take(UNIT) is None:
                        one.give_back(UNIT)
            finally:
                ended.set()

        thread = Thread(target=take_and_give_back)
        thread.start()
        refused = 0
        while not ended.is_set():
            if other._take(UNIT, store.objects, False) is None:
                other.give_back(UNIT)
            else:
                refused += 1
        thread.join()
        assert refused
        assert other.take(UNIT) is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["take", "give back", "count", "time"]), st.integers(0, 1)),
        max_size=30,
    )
)
def test_no_two_sweeps_that_count_hold_one_unit(steps: list[tuple[int, str, int]]) -> None:
    """Whatever happens: a unit that a sweep was given is refused to others, unless that one has not counted. It may
    give back at any time, also what was taken from it."""
    store = Store(f"memory://claims-{uuid.uuid4().hex}")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        now = [0.0]
        patch.setattr(claims.time, "monotonic", lambda: now[0])
        sweeps = [stack.enter_context(Claims(store.objects, EXPERIMENT, beat=3600)) for _ in range(3)]
        for each in sweeps:
            put_elsewhere(each)
        holder: dict[int, int] = {}
        counted = [0.0, 0.0, 0.0]
        for step, (who, what, unit) in enumerate(steps):
            name = f"ticket-L0{unit}-s0-3-01234567"
            if what == "take":
                answer, before = sweeps[who].take(name), holder.get(unit)
                if answer is None:
                    assert before in (None, who) or now[0] - counted[before] >= LAPSE
                    holder[unit] = who
                else:
                    assert before is not None and answer == sweeps[before].owner and before != who
            elif what == "give back":
                sweeps[who].give_back(name)
                if holder.get(unit) == who:
                    del holder[unit]
            elif what == "count":
                sweeps[who]._count(step + 1)
                counted[who] = now[0]
            else:
                now[0] += LAPSE / 4
