"""The seal: a checksum over a whole object that the object itself carries.

It is the SHA-256 (hex) of the object with 64 zeros in the seal's place. The checksums of Parquet's pages leave out the
headers and the footer, safetensors has none at all, and the commit mark has no other object that could vouch for it.
"""

from __future__ import annotations

import hashlib

UNSEALED = "0" * 64
"""What stands in the seal's place while the object is being made."""


def put_seal(data: bytes, position: int) -> bytes:
    """The object with its seal in place of the UNSEALED at `position`."""
    return data[:position] + hashlib.sha256(data).hexdigest().encode() + data[position + len(UNSEALED) :]


def holds(data: bytes, seal: str, position: int) -> bool:
    """Whether the object is as it was sealed; `seal` is what it carries at `position` (-1: nowhere)."""
    if position < 0 or len(seal) != len(UNSEALED):
        return False
    digest = hashlib.sha256(data[:position])
    digest.update(UNSEALED.encode())
    digest.update(data[position + len(seal) :])
    return digest.hexdigest() == seal
