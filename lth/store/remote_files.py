"""Objects of S3 and of every other file system that fsspec knows."""

from __future__ import annotations

import datetime
import errno
import hashlib
import math
import os
import threading
from typing import Any

from lth.store.failures import s3_code, says_exists
from lth.store.local_files import Entry
from lth.store.location import Location

LARGEST_PUT = 5 * 2**30
"""Bytes that S3 takes in one PUT. Larger objects need several parts, which some servers complete over an existing
object whatever the condition says; so they are refused."""

CONNECT_TIMEOUT, READ_TIMEOUT = 5, 60
"""Seconds without an answer after which a request counts as failed. A server may think about a large PUT for long."""

_CREATE_LOCK = threading.Lock()


class RemoteFiles:
    """Objects below `location`. Raises what fsspec raises; tries everything once.

    The file system is opened on first use and again in every new process: s3fs does not survive a fork.
    """

    def __init__(self, location: Location) -> None:
        self._location = location
        self._is_s3 = location.protocol == "s3"
        self._opened: tuple[int, Any, str] | None = None

    def _open(self) -> tuple[Any, str]:
        """The fsspec file system of this process and the root's path in it."""
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            opened = self._opened = (os.getpid(), *_open(self._location))
        return opened[1], opened[2]

    @property
    def filesystem(self) -> Any:
        """The fsspec file system of this process."""
        return self._open()[0]

    def _path(self, key: str) -> str:
        return f"{self._open()[1].rstrip('/')}/{key}"

    def begin(self) -> None:
        """Nothing: a bucket that is gone is not made again."""

    def create(self, key: str, data: bytes) -> bool:
        """Writes `data` as `key` unless that exists; True if this call wrote it."""
        filesystem = self.filesystem
        try:
            if self._is_s3:
                self._put(key, data, mode="create")
            else:
                # Few others can create exclusively; this holds at least between the threads of one process.
                with _CREATE_LOCK:
                    filesystem.makedirs(self._path(key).rpartition("/")[0], exist_ok=True)
                    filesystem.pipe_file(self._path(key), data, mode="create")
        except OSError as error:
            if says_exists(error):
                return False
            raise
        return True

    def replace(self, key: str, data: bytes) -> None:
        """Writes `data` as `key`, over what is there."""
        if self._is_s3:
            self._put(key, data, mode="overwrite")
        else:
            filesystem = self.filesystem
            filesystem.makedirs(self._path(key).rpartition("/")[0], exist_ok=True)
            filesystem.pipe_file(self._path(key), data)

    def _put(self, key: str, data: bytes, mode: str) -> None:
        if len(data) >= LARGEST_PUT:
            raise OSError(
                errno.EFBIG,
                f"{len(data):,} bytes are too many for one PUT, which takes less than "
                f"{LARGEST_PUT:,}; make the cohorts smaller",
            )
        # s3fs sends several parts from twice `chunksize` on.
        self.filesystem.pipe_file(self._path(key), data, mode=mode, chunksize=LARGEST_PUT)

    def read(self, key: str) -> bytes | None:
        """The content, or None if there is no such object."""
        filesystem = self.filesystem
        options = {"max_concurrency": 1} if self._is_s3 else {}  # saves s3fs asking for the size first
        try:
            return bytes(filesystem.cat_file(self._path(key), **options))
        except FileNotFoundError as error:
            if s3_code(error) == "NoSuchBucket":
                raise
            return None

    def digest(self, key: str) -> tuple[int, str] | None:
        """Size in bytes and SHA-256 (hex) of the content; None if there is no such object."""
        data = self.read(key)
        return None if data is None else (len(data), hashlib.sha256(data).hexdigest())

    def delete(self, key: str) -> None:
        """Removes the object; one that is missing is fine."""
        try:
            self.filesystem.rm_file(self._path(key))
        except FileNotFoundError as error:
            if s3_code(error) == "NoSuchBucket":
                raise

    def remove_empty(self, folder: str) -> None:
        """Nothing: a folder is there as long as an object is."""

    def entries(self, folder: str) -> dict[str, Entry]:
        """The keys below `folder`, at any depth, as they are now."""
        filesystem = self.filesystem
        if self._is_s3:
            # As a prefix of the root: s3fs then makes the one listing and no other request.
            found = filesystem.find(self._open()[1], prefix=f"{folder}/", detail=True)
        else:
            filesystem.invalidate_cache()
            found = filesystem.find(self._path(folder), detail=True)
        start = len(self._path(""))
        entries = {
            name[start:]: Entry(int(entry["size"]), _changed(entry))
            for name, entry in found.items()
            if not name.endswith("/")
        }
        return {
            key: entry for key, entry in entries.items() if not any(part.startswith(".") for part in key.split("/"))
        }

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly below `folder`."""
        filesystem = self.filesystem
        filesystem.invalidate_cache()
        try:
            entries = filesystem.ls(self._path(folder), detail=True)
        except FileNotFoundError as error:
            if s3_code(error) == "NoSuchBucket":
                raise
            return []
        return sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory")


def _changed(entry: dict[str, Any]) -> float:
    """S3 says LastModified, others mtime or created; one that says nothing has objects that are never old."""
    said = entry.get("LastModified") or entry.get("mtime") or entry.get("created") or math.inf
    return said.timestamp() if isinstance(said, datetime.datetime) else float(said)


def _open(location: Location) -> tuple[Any, str]:
    import fsspec

    # Never the cached instance: it would hold the keys and the server that the environment named some time ago.
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if location.protocol == "s3":
        # One attempt: the store tries again by itself, and knows what a lost reply to a create-only PUT means.
        options["config_kwargs"] = {
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "max_pool_connections": 32,
            "connect_timeout": CONNECT_TIMEOUT,
            "read_timeout": READ_TIMEOUT,
        }
        region = os.environ.get("AWS_REGION")
        if region and not os.environ.get("AWS_DEFAULT_REGION"):  # boto reads only the latter
            options["client_kwargs"] = {"region_name": region}
    filesystem, root = fsspec.core.url_to_fs(location.url, **options)
    if location.protocol == "s3":
        filesystem.retries = 1
    return filesystem, str(root)
