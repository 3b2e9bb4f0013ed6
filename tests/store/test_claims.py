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
from threading import Barrier, Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lth.errors import StoreError
from lth.store import Store, claims
from lth.store.claims import LAPSE, Claims
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


def elsewhere(owner: Claims) -> None:
    """Puts its sweep onto another machine, of whose processes nothing is known."""
    owner.owner = replace(owner.owner, host="elsewhere")
    owner._mark = json.dumps(vars(owner.owner)).encode()


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
    elsewhere(one)
    one.take(UNIT)
    for number in range(5):
        assert other.take(UNIT) == one.owner
        now[0] += LAPSE - 1
        one._write(number + 1)
    assert other.take(UNIT) == one.owner
    now[0] += LAPSE - 1
    assert other.take(UNIT) == one.owner
    now[0] += 1
    assert other.take(UNIT) is None
    one._write(9)  # it was only stopped: what was taken from it stays taken
    assert one.take(UNIT) == other.owner


def test_who_begins_to_watch_waits_for_the_whole_lapse(sweep: Sweep, now: list[float]) -> None:
    """However old a claim is: clocks of others are not asked."""
    one, other = sweep(), sweep()
    elsewhere(one)
    one.take(UNIT)
    now[0] += 1e6
    assert other.take(UNIT) == one.owner


def test_a_sweep_that_has_left_holds_nothing(store: Store, sweep: Sweep) -> None:
    with Claims(store.objects, EXPERIMENT) as one:
        elsewhere(one)
        one.take(UNIT)
    assert sweep().take(UNIT) is None


def test_a_process_of_this_machine_that_is_gone_holds_nothing(store: Store, sweep: Sweep) -> None:
    script = ("import os, sys; from lth.store import Store\n"
              f"claims = Store(sys.argv[1]).claims({EXPERIMENT!r}).__enter__()\n"
              f"assert claims.take({UNIT!r}) is None; os._exit(9)")
    assert subprocess.run([sys.executable, "-c", script, store.url], check=False).returncode == 9
    assert store.objects.sizes(f"claims/experiment={EXPERIMENT}/sweeps")
    assert sweep().take(UNIT) is None
    assert len(store.objects.sizes(f"claims/experiment={EXPERIMENT}/sweeps")) == 1, "its count was removed"


@pytest.mark.parametrize("content", [
    b"", b"\xff", b"[]", b'{"sweep": "x"}', b'{"sweep": 1, "host": 2, "process": "y"}'])
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


def test_a_store_that_refuses_to_write_stops_no_sweep(
    store: Store, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sweep()
    one.take(UNIT)
    files = type(store.objects.files)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "refused")

    with monkeypatch.context() as patch:
        patch.setattr(files, "replace", refuse)
        patch.setattr(files, "delete", refuse)
        one._write(7)
        one.give_back(UNIT)
        with Claims(store.objects, EXPERIMENT, beat=0.01):
            pass
        patch.setattr(files, "create", refuse)
        with pytest.raises(StoreError):
            one.take("ticket-L01-s0-3-01234567")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["take", "give back", "count", "time"]),
                          st.integers(0, 1)), max_size=30))
def test_no_two_sweeps_that_count_hold_one_unit(steps: list[tuple[int, str, int]]) -> None:
    """Whatever happens: a unit that a sweep was given is refused to others, unless that one has not counted."""
    store = Store(f"memory://claims-{uuid.uuid4().hex}")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        now = [0.0]
        patch.setattr(claims.time, "monotonic", lambda: now[0])
        sweeps = [stack.enter_context(Claims(store.objects, EXPERIMENT, beat=3600)) for _ in range(3)]
        for each in sweeps:
            elsewhere(each)
        holder: dict[int, int] = {}
        counted = [0.0, 0.0, 0.0]
        for step, (who, what, unit) in enumerate(steps):
            if what == "take":
                answer = sweeps[who].take(f"ticket-L0{unit}-s0-3-01234567")
                before = holder.get(unit)
                if answer is None:
                    assert before in (None, who) or now[0] - counted[before] >= LAPSE
                    holder[unit] = who
                else:
                    assert before is not None and answer == sweeps[before].owner and before != who
            elif what == "give back" and holder.get(unit) == who:
                sweeps[who].give_back(f"ticket-L0{unit}-s0-3-01234567")
                del holder[unit]
            elif what == "count":
                sweeps[who]._write(step + 1)
                counted[who] = now[0]
            elif what == "time":
                now[0] += LAPSE / 2
