"""Each layer by itself."""

from __future__ import annotations

from fractions import Fraction

from lth.pruning.scopes.registry import SCOPES, Scope


def remaining_per_level(size: int, fraction: Fraction, levels: int) -> list[int]:
    """Weights left of `size` after 0, 1, ... `levels` levels."""
    counts = [size]
    for _ in range(levels):
        counts.append(counts[-1] - round(fraction * counts[-1]))
    return counts


SCOPES.add(
    "layer", Scope(None, units=True), "within each layer, by its own fraction of what is left", remaining_per_level
)
