"""What a re-reading of a store finds, and how it reads: whatever an object turns out to be, it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import pyarrow as pa

from lth.errors import DamagedObject, StoreError
from lth.store.reader import Place
from lth.store.remote_files import LARGEST_PUT
from lth.store.schemas import ROW_KEYS
from lth.store.store import Store
from lth.store.unit import is_key

LARGEST_TABLE = 2**30
"""Bytes of an object of `levels` or of an analysis, far more than any has: what is larger is not read into memory."""

Trouble = Literal["damaged", "missing", "extra", "contradictory"]


class Finding(NamedTuple):
    """One object, or place, with what is wrong with it. `extra` ones are in nobody's way; the others need something
    done, which `reason` says."""

    trouble: Trouble
    key: str
    reason: str


@dataclass
class Reading:
    """What has been read of a store so far."""

    store: Store
    objects: int = 0
    size: int = 0
    unsealed: list[str] = field(default_factory=list)
    ended_claims: int = 0
    unlisted: int = 0
    """Curated files that no version lists (any more)."""
    findings: list[Finding] = field(default_factory=list)

    def listing(self, where: str) -> dict[str, int] | None:
        """The objects below a folder and their sizes; None, and a finding, if it cannot be listed."""
        try:
            return self.store.objects.sizes(where)
        except StoreError as error:
            self.findings.append(Finding("damaged", where, str(error)))
            return None

    def check(self, key: str, size: int, check: Callable[[bytes], None], remedy: str, most: int = LARGEST_PUT) -> None:
        """Read an object and check it; one that is gone by now is no trouble."""
        if not is_key(key):
            self.findings.append(Finding("extra", key, "its name is none of a store's; nobody reads it"))
            return
        self.objects += 1
        try:
            data = read_object(self.store, key, size, most)
            if data is not None:
                self.size += len(data)
                check(data)
        except DamagedObject as error:
            self.findings.append(Finding("damaged", key, f"{error}; {remedy}"))


def read_object(store: Store, key: str, size: int, most: int) -> bytes | None:
    """The content of an object; None if it is gone. DamagedObject (its text is only the reason) if it cannot be
    read."""
    if size > most:
        raise DamagedObject(f"it has {size:,} bytes, more than any object of its kind, and was not read")
    try:
        return store.read(key)
    except StoreError as error:
        raise DamagedObject(str(error)) from error
    except MemoryError as error:
        raise DamagedObject(f"there is no memory for its {size:,} bytes") from error


def places_of(rows: pa.Table) -> Iterator[Place]:
    """(arm, draw, level, seed) of each row."""
    return zip(*(rows[name].to_pylist() for name in ROW_KEYS["levels"]), strict=True)
