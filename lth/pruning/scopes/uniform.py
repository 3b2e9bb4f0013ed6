"""The same density everywhere, or nearly."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from lth.models.structure import PrunableTensor
from lth.pruning.scopes.registry import Shares, register_scope


@register_scope("uniform", "every layer at the density of the whole network")
def uniform(tensors: Sequence[PrunableTensor], density: Fraction) -> Shares:
    """The same density everywhere."""
    return {}, {tensor.name: Fraction(1) for tensor in tensors}


@register_scope(
    "uniform_plus", "uniform, but a first convolution dense and the output layer at least at 20% (Gale et al. 2019)"
)
def uniform_plus(tensors: Sequence[PrunableTensor], density: Fraction) -> Shares:
    """Uniform, but a first convolution stays dense and the output layer keeps at least 20% (Gale et al. 2019)."""
    fixed = {}
    if tensors[0].kind == "conv":
        fixed[tensors[0].name] = Fraction(1)
    size = sum(tensor.size for tensor in tensors)
    others = [tensor for tensor in tensors if tensor.name not in fixed]
    theirs = sum(tensor.size for tensor in others)
    left = density * size - (size - theirs)  # for the others together, at one density
    for tensor in others:
        if tensor.output and left < Fraction(theirs, 5):
            fixed[tensor.name] = Fraction(1, 5)
    return fixed, {tensor.name: Fraction(1) for tensor in tensors if tensor.name not in fixed}
