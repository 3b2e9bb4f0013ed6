"""Objects as files of a local or network disk: written whole, synced, and never over one another."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from lth.errors import StoreError

TEMPORARY = ".tmp"
GONE = "the folder that was there is gone, or another lies in its place; bring it back and run again"
_ROOTS: dict[str, tuple[int, int]] = {}
"""Folders that a sweep of this process has begun to write to, as the device and number that they had then."""
NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class Entry:
    """An object as it is listed."""

    bytes: int
    changed: float
    """When it was written: seconds since 1970 by the clock of whoever holds the objects."""


class LocalFiles:
    """Files below the directory `root`. Raises OSError as the operating system does.

    Names with a leading dot are temporary files of writers and are never listed.
    """

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def begin(self) -> None:
        """From now on this process writes only into the folder that is there now: should it be unmounted or moved away,
        nothing is begun in its place."""
        _make_directory(self._root)
        facts = os.stat(self._root)
        _ROOTS[str(self._root)] = facts.st_dev, facts.st_ino

    def create(self, key: str, data: bytes) -> bool:
        """Writes `data` as `key` unless that exists; True if this call wrote it. Seen whole or not at all."""
        path = self._root / key
        with self._temporary(path, data) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                # Over NFS a link whose reply was lost is repeated, and then finds the name that it made itself.
                if not _same_file(temporary, path):
                    return False
            except OSError as error:
                if error.errno in NO_HARD_LINKS:
                    raise OSError(errno.EOPNOTSUPP, "hard links") from error
                raise
        _sync_directory(path.parent)
        return True

    def replace(self, key: str, data: bytes) -> None:
        """Writes `data` as `key`, over what is there."""
        path = self._root / key
        with self._temporary(path, data) as temporary:
            os.replace(temporary, path)
        _sync_directory(path.parent)

    def read(self, key: str) -> bytes | None:
        """The content, or None if there is no such object."""
        try:
            with _open_file(self._root / key) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def digest(self, key: str) -> tuple[int, str] | None:
        """Size in bytes and SHA-256 (hex) of the content, read piece by piece; None if there is no such object."""
        try:
            with _open_file(self._root / key) as file:
                return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None

    def delete(self, key: str) -> None:
        """Removes the object; one that is missing is fine. StoreError for one that lies outside the store, behind a
        link."""
        path = self._root / key
        if not path.parent.resolve().is_relative_to(self._root.resolve()):
            raise StoreError(f"{key} lies outside the store, behind a link, and is not removed; remove the link")
        with suppress(FileNotFoundError):
            path.unlink()
            _sync_directory(path.parent)

    def entries(self, folder: str) -> dict[str, Entry]:
        """The keys below `folder`, at any depth. A link that leads nowhere, or in a circle, is an empty object."""
        return self._entries_below(folder, ())

    def _entries_below(self, folder: str, above: tuple[tuple[int, int], ...]) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for entry in _entries(self._root / folder):
            key = f"{folder}/{entry.name}"
            try:
                facts = entry.stat()
            except OSError as error:
                if entry.is_symlink():
                    found[key] = Entry(0, entry.stat(follow_symlinks=False).st_mtime)
                elif error.errno != errno.ENOENT:  # moved away since the directory was read
                    raise
                continue
            place = facts.st_dev, facts.st_ino
            if not stat.S_ISDIR(facts.st_mode):
                found[key] = Entry(facts.st_size, facts.st_mtime)
            elif place in above:
                found[key] = Entry(0, facts.st_mtime)
            else:
                found.update(self._entries_below(key, (*above, place)))
        return found

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly below `folder`."""
        return sorted(entry.name for entry in _entries(self._root / folder) if entry.is_dir())

    def remove_empty(self, folder: str) -> None:
        """Removes the folder and those below it, if they hold nothing but temporary files."""
        for directory, _, names in os.walk(self._root / folder, topdown=False):
            with suppress(FileNotFoundError):
                if all(name.startswith(".") and name.endswith(TEMPORARY) for name in names):
                    for name in names:
                        os.unlink(os.path.join(directory, name))
                    with suppress(OSError):  # not empty
                        os.rmdir(directory)

    def _check_root(self) -> None:
        known = _ROOTS.get(str(self._root))
        if known is None:
            return
        try:
            facts = os.stat(self._root)
        except FileNotFoundError:
            raise OSError(errno.ESTALE, GONE) from None
        if (facts.st_dev, facts.st_ino) != known:
            raise OSError(errno.ESTALE, GONE)

    @contextmanager
    def _temporary(self, path: Path, data: bytes) -> Iterator[Path]:
        """A synced file beside `path` that holds `data`, gone at the end."""
        self._check_root()
        _make_directory(path.parent)
        temporary = path.parent / f".{secrets.token_hex(8)}{TEMPORARY}"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


def _open_file(path: Path) -> BufferedReader:
    """The file, to be read; OSError for whatever else has a name: who opened a pipe would wait for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.ENOTDIR, "it is no file", str(path))
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except FileNotFoundError:  # removed since
        return False


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        return []


def _make_directory(directory: Path) -> None:
    """Makes the directory and those above it; each is synced into the one that holds it."""
    if not directory.is_dir():
        _make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        _sync_directory(directory.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # how SMB and some FUSE file systems say that directories need no syncing
            raise
    finally:
        os.close(descriptor)
