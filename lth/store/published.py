"""What the curated tables consist of: the files of the version that is published, each with its digest.

    curated/published/<version, 8 digits>.json     the files of all three tables, sealed; the highest version counts
    curated/<table>/experiment_id=<id>/<batch>.parquet

A version is one create-only object, so it is published whole or not at all, and of two writers that have read the same
version one fails. A file is written once. Readers take nothing that is not in the list, and nothing whose bytes are not
those that the list speaks of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace

from lth.errors import DamagedObject, StoreError
from lth.store.checksum import open_sealed, sealed
from lth.store.objects import Objects
from lth.store.schemas import UNIT_SCHEMAS

FOLDER = "curated/published"
_ATTEMPTS = 5
"""How often a version may be replaced by the next between our listing it and our reading it."""


@dataclass(frozen=True)
class PublishedFile:
    """A Parquet file of a curated table: rows of one experiment from one batch; `key` is the object's."""

    key: str
    experiment_id: str
    batch: str
    bytes: int
    sha256: str
    rows: int

    @property
    def part(self) -> tuple[str, str]:
        """(experiment, batch): what is published, believed and taken back together, in all three tables."""
        return self.experiment_id, self.batch


@dataclass(frozen=True)
class Published:
    """A version of the curated tables; version 0 is before the first: nothing."""

    version: int
    files: Mapping[str, tuple[PublishedFile, ...]]

    @property
    def empty(self) -> bool:
        return not any(self.files.values())

    def of(self, kind: str, experiments: Iterable[str] | None = None) -> list[PublishedFile]:
        """The files of a table, of some experiments or of all."""
        chosen = None if experiments is None else set(experiments)
        return [file for file in self.files[kind] if chosen is None or file.experiment_id in chosen]

    def having(self, files: Mapping[str, PublishedFile]) -> Published:
        """With one more file for each table."""
        return replace(self, files={kind: (*self.files[kind], files[kind]) for kind in self.files})

    def without(self, unwanted: Callable[[PublishedFile], bool]) -> Published:
        """Without these files, and those of the same parts in the other tables."""
        parts = {file.part for files in self.files.values() for file in files if unwanted(file)}
        return replace(
            self,
            files={kind: tuple(file for file in files if file.part not in parts) for kind, files in self.files.items()},
        )


NOTHING = Published(0, dict.fromkeys(UNIT_SCHEMAS, ()))


def version_key(version: int) -> str:
    return f"{FOLDER}/{version:08d}.json"


def last_version(objects: Objects) -> int:
    """The number of the last version, whatever its object holds; 0: there is none."""
    numbers = (re.fullmatch(rf"{FOLDER}/(\d{{8}})\.json", key) for key in objects.sizes(FOLDER))
    return max((int(found[1]) for found in numbers if found), default=0)


def read_published(objects: Objects) -> Published:
    """The version that counts. DamagedObject names its object if that is not what was written."""
    for _ in range(_ATTEMPTS):
        version = last_version(objects)
        if version == 0:
            return NOTHING
        key = version_key(version)
        data = objects.read(key)
        if data is not None:
            break
    try:
        content = open_sealed(data or b"")
        files = {kind: tuple(PublishedFile(**file) for file in content["files"][kind]) for kind in UNIT_SCHEMAS}
        if content["version"] != version:
            raise DamagedObject(f"it is version {content['version']}, not the one that its name says")
    except (DamagedObject, KeyError, TypeError) as error:
        raise DamagedObject(
            f"{objects.location.url}/{key} is damaged: {error}; `lth compact --rebuild` writes the curated tables anew",
            key,
        ) from error
    return Published(version, files)


def publish_next(objects: Objects, published: Published) -> Published:
    """Make this the next version; StoreError if another writer has published one since it was read."""
    following = replace(published, version=published.version + 1)
    files = {kind: [asdict(file) for file in files] for kind, files in following.files.items()}
    data = sealed({"version": following.version, "files": files})
    if not objects.create(version_key(following.version), data) or last_version(objects) != following.version:
        raise StoreError(
            f"{objects.location.url}: the curated tables cannot be used: another compaction has published meanwhile; "
            "run this one again"
        )
    remove_earlier(objects, following)
    return following


def remove_earlier(objects: Objects, published: Published) -> None:
    """Remove the versions before this."""
    for key in objects.sizes(FOLDER):
        if key < version_key(published.version):
            objects.delete(key)


def trouble_of(objects: Objects, file: PublishedFile) -> str | None:
    """What is wrong with the object; None: its bytes are those that were published."""
    try:
        digest = objects.digest(file.key)
    except StoreError as error:
        return f"it cannot be read: {error}"
    if digest is None:
        return "it is missing"
    return None if digest == (file.bytes, file.sha256) else "its bytes are not those that were published"
