"""All layers together."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from lth.models.structure import PrunableTensor
from lth.pruning.scopes.registry import Shares, register_scope


@register_scope("global", "across all layers", units=True)
def across_all(tensors: Sequence[PrunableTensor], density: Fraction) -> Shares:
    """Nothing is shared out: all scores of the network compete with one another."""
    return {}, {}
