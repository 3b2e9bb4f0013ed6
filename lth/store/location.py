"""Where a store is: reading its URL, and printing it without anything secret."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

from lth.errors import StoreError

_RIGHT = "write a directory, file:///directory, or s3://bucket/prefix"
_SCHEMES = r"s3a|s3n?|gs|gcs|az|abfss?|adl|https?|hdfs|s?ftp|ssh|smb|oci|oss|webdav|memory|file|local"
SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")


@dataclass(frozen=True)
class Location:
    """A store's file system and the place in it; `root` is an absolute directory, or e.g. `bucket/prefix`."""

    protocol: str
    root: str

    @property
    def url(self) -> str:
        """What `parse_location` reads as this location."""
        return f"{self.protocol}://{self.root.replace('%', '%25') if self.protocol == 'file' else self.root}"

    @property
    def bucket(self) -> str:
        return self.root.split("/", 1)[0]


def parse_location(url: str) -> Location:
    """The location that `url` names: `file:///…`, a path (made absolute), `s3://bucket/prefix`, or another fsspec URL.

    A path is taken as it is written, but for `~`; in a file URL %20 is a space, and the host is this machine.
    Raises StoreError for a URL with keys or a password in it, for what is nearly a URL, and for what makes no sense. It
    repeats nothing of what may hold a secret.
    """
    url = os.fspath(url)
    if not url.strip():
        raise StoreError(f"the store's URL is empty; {_RIGHT}")
    if url != url.strip() or not url.isprintable():
        raise StoreError(f"the store's URL begins or ends with a space, or holds a control character; {_RIGHT}")
    protocol, separator, rest = url.partition("://")
    protocol = protocol.lower()
    if url.lower().startswith(("file:", "local:")):
        return Location("file", _file(re.sub(r"^\w+:", "", url)))
    _refuse_secrets(url, protocol if separator else None)
    if not separator:
        return Location("file", _path(url))
    protocol = "s3" if protocol == "s3a" else protocol
    if protocol in ("http", "https"):
        raise StoreError(
            f"a store is no {protocol}:// URL; write s3://bucket/prefix, and set AWS_ENDPOINT_URL to the server"
        )
    root = rest.strip("/") if protocol == "memory" else rest.rstrip("/")
    parts = root.split("/") if root or protocol != "memory" else []
    if "::" in url or any(part in ("", ".", "..") for part in parts) or re.search(r"[?#*\s]", root):
        raise StoreError(
            f"the store's {protocol[:20]}:// URL cannot be used; write protocol://bucket/prefix without '::', '..', "
            "'//', '?', '#', '*' and spaces"
        )
    if protocol == "s3" and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", root.split("/")[0]):
        raise StoreError("the store's s3:// URL names no valid bucket; write s3://bucket/prefix")
    return Location(protocol, root)


def _refuse_secrets(url: str, protocol: str | None) -> None:
    """Refuse keys and passwords, `@` written as %40 too, where only slips would have them as well."""
    plain = unquote(url)
    rest = plain.partition("://")[2]
    if protocol is None:
        held = bool(re.search(r"[^/]:[^@]*@", plain)) or bool(
            re.match(rf"(?:{_SCHEMES})[:;/]*//?.*@", plain, re.IGNORECASE)
        )
    else:
        # A colon in the host part of any URL but host:port is half of key:secret, whether or not the @ was forgotten.
        held = "@" in rest or bool(re.match(r"[^/]*:(?!\d{1,5}(/|$))", rest))
        held = held or (protocol in ("s3", "s3a") and ":" in rest.split("/")[0])
    if held:
        scheme = f"{protocol[:20]}:// " if protocol else ""
        raise StoreError(
            f"the store's {scheme}URL holds a user or password (not shown); take it out and "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what that file system reads, instead"
        )


def _file(rest: str) -> str:
    """The directory of a file URL, after `file:`."""
    path = unquote(rest)
    if not path.startswith("//"):
        return _path(path)
    host, slash, below = path.removeprefix("//").partition("/")
    if host.lower() in ("", "localhost"):
        return _path("/" + below.lstrip("/"))
    if slash and below and host not in (".", "..", "~"):
        raise StoreError(
            "the store's file:// URL names another host before its path; write three slashes, file:///directory, or "
            "just the directory"
        )
    return _path(host + slash + below)


def _path(path: str) -> str:
    """An absolute directory."""
    slip = re.match(rf"({_SCHEMES})(?::|//)", path, re.IGNORECASE)
    if slip:
        raise StoreError(f"the store's URL begins with {slip[1]!r}, but not with {slip[1].lower() + '://'!r}; {_RIGHT}")
    if re.match(r"[A-Za-z]:[\\/]|\\\\", path) and os.sep == "/":
        raise StoreError(f"the store is a path of Windows, which this machine has not; {_RIGHT}")
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise StoreError(f"there is no home directory of the user that the store's path begins with; {_RIGHT}")
    return os.path.abspath(expanded)


def endpoint() -> str:
    """The S3 server of the environment, for messages."""
    found = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not found:
        return "AWS (AWS_ENDPOINT_URL is not set)"
    parts = urlsplit(found)
    return redact(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rpartition("@")[2], "", "")))


def redact(text: str) -> str:
    """`text` without the keys that the environment holds and without the user part of any URL."""
    for variable in SECRET_VARIABLES:
        value = os.environ.get(variable, "")
        if len(value) >= 4:  # a shorter one would tear words apart and protects nothing
            text = text.replace(value, f"<{variable}>")
    return re.sub(r"(//?)[^/@\s:]+:(?!\d{1,5}/)[^@\s]+@|//[^/@\s]+@", lambda found: found[1] or "//", text)
