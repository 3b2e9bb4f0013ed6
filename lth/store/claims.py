"""Which sweep is at which unit, so that two sweeps of one experiment share its units instead of doing each twice.

    claims/experiment=<id>/units/<unit>.json      the sweep that is at the unit, and where it runs
    claims/experiment=<id>/sweeps/<sweep>.json    a number that this sweep counts up for as long as it runs

Only time depends on a claim, no result: a unit that is done twice all the same is one unit in the store. No two clocks
are compared. A sweep is gone when somebody who keeps looking has not seen it count for LAPSE of his own seconds; at
once if it ran on his machine and its process is no more, or if it took its leave.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import platform
import re
import secrets
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path, PurePosixPath

from lth.errors import DamagedObject, StoreError
from lth.store.checksum import open_sealed, sealed
from lth.store.objects import Objects, Retries
from lth.store.unit import claim_key, folder, is_key, is_name, sweep_claim_key

log = logging.getLogger(__name__)

BEAT = 5.0
"""Seconds from one count to the next."""

LAPSE = 75.0
"""Longer than a request takes that nobody answers, so that one lost packet costs no unit."""

ATTEMPTS = 5
PARTING = 2.0
"""Seconds that taking leave may take; a sweep that is to stop does not wait for a store that hangs."""


@dataclass(frozen=True)
class Owner:
    """The sweep that is at a unit: its own name, its host, and the number of its process on that machine, which is told
    from others of the same host name."""

    sweep: str
    host: str
    process: int
    machine: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


_FIELDS = {field.name for field in fields(Owner)}


class Claims:
    """The claims of one sweep, which takes units within `with`. Threads may share one.

    A store that cannot be written to for a while leaves units unclaimed or claimed for too long; no method raises
    because of that but a first `take`, whose sweep could not commit either.
    """

    def __init__(self, objects: Objects, experiment_id: str, beat: float = BEAT, lapse: float = LAPSE) -> None:
        self.experiment_id = experiment_id
        self.owner = Owner(secrets.token_hex(8), platform.node(), os.getpid(), _machine())
        self.beat, self.lapse = beat, lapse
        self._objects = objects
        self._tried_once = copy.copy(objects)
        self._tried_once.retries = Retries(tries=1)
        self._mark = sealed(vars(self.owner))
        self._refused: dict[str, Owner] = {}
        self._unreturned: set[str] = set()
        self._held: set[str] = set()
        self._seen: dict[str, tuple[bytes, float, float]] = {}
        self._lock = threading.Lock()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="claims", daemon=True)

    def __enter__(self) -> Claims:
        self._count(0)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join(PARTING)

    def take(self, unit_name: str) -> Owner | None:
        """Claims the unit, unless a sweep that runs is at it: that sweep. None: it is ours.

        A unit that was refused before is asked for without patience: while the store cannot tell, it stays refused.
        """
        refused = self._refused.get(unit_name)
        try:
            owner = self._take(unit_name, self._objects if refused is None else self._tried_once, refused is not None)
        except StoreError:
            with self._lock:
                self._unreturned.add(unit_name)  # it may be ours, its reply lost
            if refused is None:
                raise
            return refused
        if owner is None:
            self._refused.pop(unit_name, None)
            with self._lock:
                self._unreturned.discard(unit_name)
                self._held.add(unit_name)
        else:
            self._refused[unit_name] = owner
        return owner

    def _take(self, unit_name: str, objects: Objects, was_refused: bool) -> Owner | None:
        key = claim_key(self.experiment_id, unit_name)
        for attempt in range(ATTEMPTS):
            if not (was_refused and attempt == 0) and objects.create(key, self._mark):
                break
            claim = objects.read(key)
            if claim is None or claim == self._mark:
                continue  # just given back, or ours
            owner = _owner_of(claim)
            if owner is not None and self._runs(owner, objects):
                return owner
            if objects.read(key) == claim:  # two who find the same sweep gone may still both take its unit
                objects.replace(key, self._mark)
                break
        return None

    def give_back(self, unit_name: str) -> None:
        """Ends the claim of a unit that was taken, if another sweep has not taken it over; later, if need be."""
        key = claim_key(self.experiment_id, unit_name)
        with self._lock:
            self._held.discard(unit_name)
        try:
            if self._tried_once.read(key) == self._mark:
                self._tried_once.delete(key)
        except StoreError:
            with self._lock:
                self._unreturned.add(unit_name)

    def _runs(self, owner: Owner, objects: Objects) -> bool:
        """Whether that sweep still runs, as far as can be seen by now."""
        key = self._count_key(owner.sweep)
        count = objects.read(key)
        if count is None:
            return False
        if owner.machine == self.owner.machine and not _is_process(owner.process):
            with suppress(StoreError):
                self._tried_once.delete(key)
            return False
        now = time.monotonic()
        with self._lock:
            known, since, looked = self._seen.get(owner.sweep, (None, now, now))
            if count != known or now - looked > self.lapse / 2:  # while we did not look, it may have counted for long
                since = now
            self._seen[owner.sweep] = count, since, now
        return now - since < self.lapse

    def _run(self) -> None:
        number = 0
        while not self._leaving.wait(self.beat):
            number += 1
            self._count(number)
            with self._lock:
                again, self._unreturned = self._unreturned, set()
            for unit_name in again:
                self.give_back(unit_name)
        with self._lock:
            held = self._held | self._unreturned
        for unit_name in held:  # a signal may have ended the sweep between its taking a unit and its giving it back
            self.give_back(unit_name)
        with suppress(StoreError):
            self._tried_once.delete(self._count_key(self.owner.sweep))

    def _count(self, number: int) -> None:
        try:
            self._tried_once.replace(self._count_key(self.owner.sweep), sealed({**vars(self.owner), "count": number}))
        except StoreError as error:
            log.info("other sweeps cannot see that this one runs: %s", error)

    def _count_key(self, sweep: str) -> str:
        return sweep_claim_key(self.experiment_id, sweep)


def _owner_of(content: bytes) -> Owner | None:
    """None: it is no claim, and nobody's."""
    try:
        claim = json.loads(content)
        if set(claim) != _FIELDS:  # a claim of earlier versions has these and no seal
            claim = open_sealed(content)
        owner = Owner(str(claim["sweep"]), str(claim["host"]), int(claim["process"]), str(claim["machine"]))
    except (DamagedObject, ValueError, TypeError, KeyError, OverflowError):
        return None
    return owner if is_name(owner.sweep) else None


@cache
def _machine() -> str:
    """This start of this machine, and the space that its process numbers are of; containers have their own."""
    known = [platform.node()]
    with suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        known.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(known)


def _is_process(number: int) -> bool:
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError, ValueError):
        return False
    except OSError:
        return True
    return True


def check_claim(content: bytes) -> None:
    """DamagedObject (its text is only the reason) unless it is a claim, or the count of a sweep, as it was written."""
    if _owner_of(content) is None and not re.fullmatch(rb'{"count": \d+}', content):
        open_sealed(content)


def living(objects: Objects, experiment_id: str, watch: float = 0.0) -> dict[str, str]:
    """The claims, and counts of sweeps, that may be of sweeps that run: key -> which sweep that is.

    A sweep has ended if it took its leave, or if it ran on this machine and its process is no more. Of others it is not
    known at once: those that have not counted within `watch` seconds, where that is more than LAPSE, have ended, too.
    """
    held = {key: objects.read(key) for key in objects.sizes(folder("claims", experiment_id)) if is_key(key)}
    counts = {sweep: held.get(sweep_claim_key(experiment_id, sweep)) for sweep in _sweeps_in(held)}
    owners = {key: owner for key, content in held.items() if content and (owner := _owner_of(content))}
    here = _machine()
    gone = {owner.sweep for owner in owners.values() if owner.machine == here and not _is_process(owner.process)}
    waiting = {sweep for sweep, count in counts.items() if count is not None and sweep not in gone}
    if watch >= LAPSE and waiting:
        until = time.monotonic() + watch
        silent = waiting - {owner.sweep for owner in owners.values() if owner.machine == here}
        while silent and time.monotonic() < until:
            time.sleep(BEAT)
            now = {sweep: objects.read(sweep_claim_key(experiment_id, sweep)) for sweep in silent}
            silent = {sweep for sweep in silent if now[sweep] == counts[sweep]}
        waiting -= silent
    names = {owner.sweep: f"a sweep that runs, {owner}" for owner in owners.values()}
    found = {}
    for key in held:
        sweep = owners[key].sweep if key in owners else PurePosixPath(key).stem
        if sweep in waiting:
            found[key] = names.get(sweep, "a sweep that runs")
    return found


def _sweeps_in(keys: Iterable[str]) -> list[str]:
    return [PurePosixPath(key).stem for key in keys if key.split("/")[-2] == "sweeps"]
