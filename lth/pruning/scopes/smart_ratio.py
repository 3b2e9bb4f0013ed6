"""Smart-ratio (Su et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from lth.models.structure import PrunableTensor
from lth.pruning.scopes.registry import Shares, register_scope


@register_scope("smart_ratio", "quadratically less from layer to layer, the classifier at 30% (Su et al. 2020)")
def smart_ratio(tensors: Sequence[PrunableTensor], density: Fraction) -> Shares:
    """In proportion to (L-l+1)^2 + (L-l+1) for layer l of L, the classifier at 0.3 (Su et al. 2020)."""
    fixed = {tensor.name: Fraction(3, 10) for tensor in tensors if tensor.output}
    others = [tensor for tensor in tensors if tensor.name not in fixed]
    return fixed, {
        tensor.name: Fraction(left * left + left)
        for left, tensor in zip(range(len(others), 0, -1), others, strict=True)
    }
