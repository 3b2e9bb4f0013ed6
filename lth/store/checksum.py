"""A checksum over a whole object that the object itself carries.

It is the SHA-256 (hex) of the object with 64 zeros in its place. The checksums of Parquet's pages leave out the
headers and the footer, safetensors has none at all, and the commit mark has no other object that could vouch for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lth.errors import DamagedObject

SEAL = "sha256"
"""Where a sealed JSON object carries it."""

BLANK = "0" * 64
"""What stands in its place while the object is being made."""


def put_checksum(data: bytes, position: int) -> bytes:
    """The object with its checksum in place of the BLANK at `position`."""
    return data[:position] + hashlib.sha256(data).hexdigest().encode() + data[position + len(BLANK) :]


def checksum_is_right(data: bytes, checksum: str, position: int) -> bool:
    """Whether the object is as it was written; `checksum` is what it carries at `position` (-1: nowhere)."""
    if position < 0 or len(checksum) != len(BLANK):
        return False
    digest = hashlib.sha256(data[:position])
    digest.update(BLANK.encode())
    digest.update(data[position + len(checksum) :])
    return digest.hexdigest() == checksum


def sealed(content: Mapping[str, Any]) -> bytes:
    """JSON that carries its checksum, as its last entry."""
    data = json.dumps({**content, SEAL: BLANK}, indent=1, allow_nan=False).encode()
    return put_checksum(data, data.rindex(BLANK.encode()))


def open_sealed(data: bytes) -> dict[str, Any]:
    """The content without its checksum; DamagedObject (its text is only the reason) unless it is as it was written."""
    try:
        content = json.loads(data)
        checksum = content.pop(SEAL)
        right = checksum_is_right(data, checksum, data.rfind(checksum.encode()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedObject(f"it is no sealed record ({type(error).__name__})") from error
    if not right:
        raise DamagedObject("its bytes do not match the SHA-256 in it")
    return dict(content)
