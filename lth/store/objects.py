"""The objects of a store: checked keys, another try after a passing failure, and errors that a person can mend."""

from __future__ import annotations

import copy
import logging
import random
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from lth.errors import StoreError
from lth.store.failures import explain, is_transient, s3_code
from lth.store.local_files import Entry, LocalFiles
from lth.store.location import Location
from lth.store.remote_files import RemoteFiles
from lth.store.unit import check_key, quarantine_key

log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_JITTER = random.SystemRandom()  # never a seeded stream: workers of equal seed would all come back at the same moment


@dataclass(frozen=True)
class Retries:
    """How often a passing failure is tried again, and the waits between (seconds): by default 47 to 95 s in all, so
    that a server may be restarted, or refuse writes for half a minute, and no unit is lost."""

    tries: int = 10
    first_wait: float = 1.0
    longest_wait: float = 16.0

    def waits(self) -> Iterator[float]:
        for attempt in range(self.tries - 1):
            yield min(self.longest_wait, self.first_wait * 2**attempt) * _JITTER.uniform(0.5, 1.0)


READING = Retries(tries=5)
"""For somebody who only looks and waits for the answer: at most 15 s in all."""


class Objects:
    """Create-only, checked access to the objects below a location. Every error is a StoreError."""

    def __init__(self, location: Location, retries: Retries) -> None:
        self.location = location
        self.retries = retries
        self.files = LocalFiles(location.root) if location.protocol == "file" else RemoteFiles(location)

    def create(self, key: str, data: bytes) -> bool:
        """Writes `data` as `key` unless that exists. True: we wrote it. False: something else lies there."""
        check_key(key)
        created = self._attempt(f"write {key}", lambda: self.files.create(key, data))
        # If it exists it may be our own, its reply lost. The number of our tries does not tell: HTTP clients and
        # proxies repeat a PUT by themselves. The bytes do: they hold the time at which a unit was finished, or the
        # name of the sweep that claims it.
        return created or self.read(key) == data

    def replace(self, key: str, data: bytes) -> None:
        """Writes `data` as `key`, over what is there. For reports, saves and claims; nothing that
        counts is ever overwritten."""
        check_key(key)
        self._attempt(f"write {key}", lambda: self.files.replace(key, data))

    def read(self, key: str) -> bytes | None:
        """The content, or None if there is no such object."""
        check_key(key)
        return self._attempt(f"read {key}", lambda: self.files.read(key))

    def digest(self, key: str) -> tuple[int, str] | None:
        """Size in bytes and SHA-256 (hex) of the content; None if there is no such object."""
        check_key(key)
        return self._attempt(f"read {key}", lambda: self.files.digest(key))

    def delete(self, key: str) -> None:
        """Removes the object; one that is missing is fine."""
        check_key(key)
        self._attempt(f"delete {key}", lambda: self.files.delete(key))

    def delete_listed(self, key: str) -> None:
        """As `delete`, for a name that was listed, whatever it is made of."""
        self._attempt(f"delete {key}", lambda: self.files.delete(key))

    def remove_empty(self, folder: str) -> None:
        """Removes the folder, and what writers that were killed left in it, if no object is below it."""
        check_key(folder)
        self._attempt(f"delete {folder}", lambda: self.files.remove_empty(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        """The keys below `folder`, at any depth, and their sizes in bytes; never from a cache."""
        return {key: entry.bytes for key, entry in self.entries(folder).items()}

    def entries(self, folder: str) -> dict[str, Entry]:
        """The keys below `folder`, at any depth, with size and time of change; never from a cache."""
        check_key(folder)
        return self._attempt(f"list {folder}", lambda: self.files.entries(folder))

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly below `folder`; never from a cache."""
        check_key(folder)
        return self._attempt(f"list {folder}", lambda: self.files.folders(folder))

    def quarantine(self, key: str, content: bytes | None = None) -> str | None:
        """Moves the object out of the way and returns its new key; None if it is not there.

        With `content`, only if that is still what lies there: another process may have put it right already.
        """
        found = self.read(key)
        if found is None or (content is not None and found != content):
            return None
        target = quarantine_key(key, found)
        self.create(target, found)  # exists: the same content was put there before
        self.delete(key)
        log.warning("quarantined %s as %s", key, target)
        return target

    def now(self) -> float:
        """Seconds since 1970 by the clock that objects are dated with: that of whoever holds them."""
        key = f"probes/{secrets.token_hex(8)}"
        self.create(key, b"what time is it?")
        try:
            return self.entries("probes")[key].changed
        finally:
            self.delete(key)

    def check_writable(self) -> None:
        """Writes, reads, lists and removes a probe; StoreError says what of it this store cannot do.

        Also refuses a server that ignores `If-None-Match`: on it two writers would overwrite each other unseen. Tries
        at most three times, because somebody is waiting for the answer.
        """
        impatient = copy.copy(self)
        impatient.retries = replace(self.retries, tries=min(self.retries.tries, 3))
        impatient._attempt("write", self.files.begin)
        impatient._probe()

    def _probe(self) -> None:
        key, content = f"probes/{secrets.token_hex(8)}", secrets.token_bytes(16)
        if not self.create(key, content) and self.read(key) != content:
            raise StoreError(
                f"store {self.location.url}: a fresh object {key} exists already; the server's replies "
                "cannot be trusted, use another"
            )
        try:
            if self.create(key, b"overwritten") or self.read(key) != content:
                raise StoreError(
                    f"store {self.location.url}: the server overwrites objects that it was told to keep "
                    "(it ignores If-None-Match); use one with conditional writes: AWS, Ceph 16+, MinIO"
                )
            if key not in self.sizes("probes"):
                raise StoreError(
                    f"store {self.location.url}: an object just written is not listed; use a store with "
                    "consistent listings"
                )
        finally:
            self.delete(key)

    def _attempt(self, action: str, operation: Callable[[], _Result]) -> _Result:
        for tried, wait in enumerate(self.retries.waits()):
            try:
                return operation()
            except Exception as error:
                if not is_transient(error):
                    raise explain(error, self.location, action) from error
                # Said aloud once, when it is no longer a hiccup.
                log.log(
                    logging.WARNING if tried == 3 else logging.INFO,
                    "cannot %s (%s); trying again in %.1f s",
                    action,
                    s3_code(error) or type(error).__name__,
                    wait,
                )
            time.sleep(wait)
        try:
            return operation()
        except Exception as error:
            raise explain(error, self.location, action) from error
