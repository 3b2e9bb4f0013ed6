"""Densities from the shapes of kernels."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from lth.models.structure import PrunableTensor
from lth.pruning.scopes.registry import Shares, register_scope


@register_scope("erk", "in proportion to the sum of a layer's extents over their product (Evci et al. 2020)")
def erk(tensors: Sequence[PrunableTensor], density: Fraction) -> Shares:
    """Erdos-Renyi kernel: in proportion to the sum of a tensor's extents over their product (Evci et al. 2020)."""
    return {}, {tensor.name: Fraction(sum(tensor.shape), tensor.size) for tensor in tensors}
