"""Objects as files of a local or network disk: written whole, synced, and never over one another."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


class LocalFiles:
    """Files below the directory `root`. Raises OSError as the operating system does.

    Names with a leading dot are temporary files of writers and are never listed.
    """

    def __init__(self, root: str) -> None:
        self._root = Path(root)

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
            return (self._root / key).read_bytes()
        except FileNotFoundError:
            return None

    def delete(self, key: str) -> None:
        """Removes the object; one that is missing is fine."""
        path = self._root / key
        with suppress(FileNotFoundError):
            path.unlink()
            _sync_directory(path.parent)

    def sizes(self, folder: str) -> dict[str, int]:
        """The keys below `folder`, at any depth, and their sizes in bytes."""
        found: dict[str, int] = {}
        for entry in _entries(self._root / folder):
            key = f"{folder}/{entry.name}"
            if entry.is_dir():
                found.update(self.sizes(key))
            else:
                with suppress(FileNotFoundError):  # moved away since the directory was read
                    found[key] = entry.stat().st_size
        return found

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly below `folder`."""
        return sorted(entry.name for entry in _entries(self._root / folder) if entry.is_dir())

    @contextmanager
    def _temporary(self, path: Path, data: bytes) -> Iterator[Path]:
        """A synced file beside `path` that holds `data`, gone at the end."""
        _make_directory(path.parent)
        temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


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
