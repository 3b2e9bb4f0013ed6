"""Which sweep is at which unit, so that two sweeps of one experiment share its units instead of doing each twice.

    claims/experiment=<id>/units/<unit>.json      the sweep that is at the unit, and where it runs
    claims/experiment=<id>/sweeps/<sweep>.json    a number that this sweep counts up for as long as it runs

Only time depends on a claim, no result: a unit that is done twice all the same is one unit in the store. No two clocks
are compared. A sweep is gone when somebody who watches has not seen it count for LAPSE of his own seconds; at once if
it ran on his machine and its process is no more, or if it took its leave.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import platform
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from lth.errors import StoreError
from lth.store.objects import Objects, Retries
from lth.store.unit import claim_key, sweep_claim_key

log = logging.getLogger(__name__)

BEAT = 5.0
"""Seconds from one count to the next."""

LAPSE = 20.0


@dataclass(frozen=True)
class Owner:
    """The sweep that is at a unit: its own name, the machine's, and the number of its process there."""

    sweep: str
    host: str
    process: int

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


class Claims:
    """The claims of one sweep, which takes units within `with`. Threads may share one.

    A store that cannot be written to for a while leaves units unclaimed or claimed for too long; no method raises
    because of that but `take`, whose sweep could not commit either.
    """

    def __init__(self, objects: Objects, experiment_id: str, beat: float = BEAT, lapse: float = LAPSE) -> None:
        self.experiment_id = experiment_id
        self.owner = Owner(secrets.token_hex(8), platform.node(), os.getpid())
        self.beat, self.lapse = beat, lapse
        self._objects = objects
        self._hasty = copy.copy(objects)
        self._hasty.retries = Retries(tries=1)
        self._mark = json.dumps(vars(self.owner)).encode()
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._lock = threading.Lock()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._count, name="claims", daemon=True)

    def __enter__(self) -> Claims:
        self._write(0)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join()
        self._forget(self._beat_key(self.owner.sweep))

    def take(self, unit_name: str) -> Owner | None:
        """Claims the unit, unless a sweep that runs is at it: that sweep. None: it is ours."""
        key = claim_key(self.experiment_id, unit_name)
        while not self._objects.create(key, self._mark):
            found = self._objects.read(key)
            if found is None:
                continue  # just given back
            owner = _owner_of(found)
            if owner is not None and self._runs(owner):
                return owner
            self._objects.replace(key, self._mark)
            break
        return None

    def give_back(self, unit_name: str) -> None:
        """Ends the claim of a unit that was taken."""
        self._forget(claim_key(self.experiment_id, unit_name))

    def _runs(self, owner: Owner) -> bool:
        """Whether that sweep still runs, as far as can be seen by now."""
        key = self._beat_key(owner.sweep)
        count = self._objects.read(key)
        if count is None:
            return False
        if owner.host == self.owner.host and not _is_process(owner.process):
            self._forget(key)
            return False
        with self._lock:
            known, since = self._seen.get(owner.sweep, (None, 0.0))
            if count != known:
                self._seen[owner.sweep] = count, time.monotonic()
                return True
        return time.monotonic() - since < self.lapse

    def _count(self) -> None:
        number = 0
        while not self._leaving.wait(self.beat):
            number += 1
            self._write(number)

    def _write(self, number: int) -> None:
        try:
            self._hasty.replace(self._beat_key(self.owner.sweep), json.dumps({"beat": number}).encode())
        except StoreError as error:
            log.info("other sweeps cannot see that this one runs: %s", error)

    def _beat_key(self, sweep: str) -> str:
        return sweep_claim_key(self.experiment_id, sweep)

    def _forget(self, key: str) -> None:
        with suppress(StoreError):
            self._hasty.delete(key)


def _owner_of(content: bytes) -> Owner | None:
    """None: it is no claim, and nobody's."""
    try:
        said = json.loads(content)
        return Owner(str(said["sweep"]), str(said["host"]), int(said["process"]))
    except (ValueError, TypeError, KeyError):
        return None


def _is_process(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
