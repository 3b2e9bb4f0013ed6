"""Where a store is: reading its URL, and printing it without anything secret."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from lth.errors import StoreError

SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")


@dataclass(frozen=True)
class Location:
    """A store's file system and the place in it; `root` is an absolute directory, or e.g. `bucket/prefix`."""

    protocol: str
    root: str

    @property
    def url(self) -> str:
        return f"{self.protocol}://{self.root}"

    @property
    def bucket(self) -> str:
        return self.root.split("/", 1)[0]


def parse_location(url: str) -> Location:
    """The location that `url` names: `file:///…`, a path (made absolute), `s3://bucket/prefix`, or another fsspec URL.

    Raises StoreError for a URL with keys or a password in it (without repeating it), and for one that makes no sense.
    """
    url = os.fspath(url)
    if not url.strip():
        raise StoreError("the store's URL is empty; write a directory, file:///…, or s3://bucket/prefix")
    protocol, separator, rest = url.partition("://")
    if not separator and url.startswith("file:"):
        protocol, separator, rest = "file", "://", url.removeprefix("file:")
    if not separator:
        return Location("file", os.path.abspath(os.path.expanduser(url)))
    if protocol in ("file", "local"):
        return Location("file", os.path.abspath(rest))
    protocol = "s3" if protocol == "s3a" else protocol
    # A colon in the host part of any URL but host:port is half of key:secret, whether or not the @ was forgotten.
    if "@" in rest or re.match(r"[^/]*:(?!\d{1,5}(/|$))", rest) or (protocol == "s3" and ":" in rest.split("/")[0]):
        raise StoreError(
            f"the store's {protocol[:20]}:// URL holds a user or password (not shown); take it out and "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what that file system reads, instead"
        )
    root = rest.strip("/") if protocol == "memory" else rest.rstrip("/")
    parts = root.split("/") if root or protocol != "memory" else []
    if "::" in url or any(part in ("", ".", "..") for part in parts) or re.search(r"[?#*\s]", root):
        raise StoreError(
            f"store URL {url!r} cannot be used; write protocol://bucket/prefix without '::', '..', '//', "
            "'?', '#', '*' and spaces"
        )
    if protocol == "s3" and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", root.split("/")[0]):
        raise StoreError(f"store URL {url!r} names no valid bucket; write s3://bucket/prefix")
    return Location(protocol, root)


def endpoint() -> str:
    """The S3 server of the environment, for messages."""
    found = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not found:
        return "AWS (AWS_ENDPOINT_URL is not set)"
    parts = urlsplit(found)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def redact(text: str) -> str:
    """`text` without the keys that the environment holds and without the user part of any URL."""
    for variable in SECRET_VARIABLES:
        value = os.environ.get(variable, "")
        if len(value) >= 4:  # a shorter one would tear words apart and protects nothing
            text = text.replace(value, f"<{variable}>")
    return re.sub(r"//[^/@\s]+@", "//", text)
