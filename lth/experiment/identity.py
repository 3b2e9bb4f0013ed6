"""Canonical JSON and its digest: the same content has the same id on every machine."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(content: Any) -> str:
    """JSON with sorted keys, no spaces, ASCII only, shortest round-trip floats; NaN and infinity are refused."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(content: Any) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()
