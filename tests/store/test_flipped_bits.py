"""One bit flipped in every kind of object: `verify` names it, and no reader believes it."""

from __future__ import annotations

from pathlib import Path

from .flipped_bits import READ_BY, try_flips


def test_no_flipped_bit_is_believed_and_each_is_named(tmp_path: Path) -> None:
    found = try_flips(len(READ_BY), 1, tmp_path)
    for kind, count in found.items():
        assert count["flips"] == count["named"] == 1, kind
        assert count["believed"] == count["unnamed"] == 0, kind
