"""Texts and pictures that carry a checksum: what a store says of an experiment, and its reports.

A sealed text has a first line that says so and a last line with the checksum, both comments of its language: what hits
one of them leaves the other. A PNG has checksums of its own, over everything but the lengths between them.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Literal

from lth.errors import DamagedObject
from lth.store.checksum import BLANK, checksum_is_right, put_checksum

State = Literal["sealed", "unsealed"]

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


@dataclass(frozen=True)
class Comment:
    """How a comment of one line begins and ends."""

    begin: str
    end: str = ""

    @property
    def first(self) -> bytes:
        return f"{self.begin}Sealed by lth: the last line is the checksum of what is above it.{self.end}\n".encode()

    def last(self, checksum: str) -> bytes:
        return f"{self.begin}sha256: {checksum}{self.end}\n".encode()

    def seal(self, text: bytes) -> bytes:
        """The text between a first and a last line of its own."""
        text = text if text.endswith(b"\n") else text + b"\n"
        data = self.first + text + self.last(BLANK)
        return put_checksum(data, data.rindex(BLANK.encode()))

    def open(self, data: bytes) -> tuple[bytes, State]:
        """The text without these lines, and whether it has them. DamagedObject if they do not speak of it."""
        pattern = re.escape(self.last("X")).replace(b"X", rb"([0-9a-f]{64})")
        found = re.search(rb"(?:\A|(?<=\n))" + pattern + rb"\Z", data)
        if not found and not data.startswith(self.first):
            return data, "unsealed"
        if not found or not data.startswith(self.first):
            raise DamagedObject("its first or its last line is not what was written")
        if not checksum_is_right(data, found[1].decode(), found.start(1)):
            raise DamagedObject("its bytes do not match the SHA-256 in its last line")
        return data[len(self.first) : found.start()], "sealed"


YAML = Comment("# ")
HTML = Comment("<!-- ", " -->")


def sealed_report(name: str, data: bytes) -> bytes:
    """A file of a report as it is written."""
    return HTML.seal(data) if name.endswith(".html") else data


def check_report(name: str, data: bytes) -> State:
    """Whether a file of a report can be checked. DamagedObject (its text is only the reason) if it is not what was
    written."""
    if name.endswith(".html"):
        return HTML.open(data)[1]
    if not name.endswith(".png"):
        return "unsealed"
    position, parts = len(_PNG), 0
    while data.startswith(_PNG) and data[position:] != _PNG_END:
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(data) or zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            break
        position, parts = end + 4, parts + 1
    else:
        if parts:
            return "sealed"
    raise DamagedObject("it is no whole PNG")
