"""How a density of the whole network is shared out among its layers before any weight is scored.

Every scope here fixes a density for each layer; the counts add up to the asked total exactly. One rule serves all:
density_l = min(1, e * r_l), where r_l is what the scope says of layer l and e is solved so that the total comes out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from lth.errors import InvalidExperiment
from lth.models.structure import PrunableTensor

Rule = Callable[[Sequence[PrunableTensor], Fraction], tuple[dict[str, Fraction], dict[str, Fraction]]]
"""(tensors, density of them together) -> (fixed densities by name, ratios r_l of all the others)."""


def _uniform(tensors: Sequence[PrunableTensor], density: Fraction) -> tuple[dict[str, Fraction], dict[str, Fraction]]:
    """The same density everywhere."""
    return {}, {tensor.name: Fraction(1) for tensor in tensors}


def _uniform_plus(
    tensors: Sequence[PrunableTensor], density: Fraction
) -> tuple[dict[str, Fraction], dict[str, Fraction]]:
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


def _erk(tensors: Sequence[PrunableTensor], density: Fraction) -> tuple[dict[str, Fraction], dict[str, Fraction]]:
    """Erdos-Renyi kernel: in proportion to the sum of a tensor's extents over their product (Evci et al. 2020)."""
    return {}, {tensor.name: Fraction(sum(tensor.shape), tensor.size) for tensor in tensors}


def _smart_ratio(
    tensors: Sequence[PrunableTensor], density: Fraction
) -> tuple[dict[str, Fraction], dict[str, Fraction]]:
    """In proportion to (L-l+1)^2 + (L-l+1) for layer l of L, the classifier at 0.3 (Su et al. 2020)."""
    fixed = {tensor.name: Fraction(3, 10) for tensor in tensors if tensor.output}
    others = [tensor for tensor in tensors if tensor.name not in fixed]
    return fixed, {
        tensor.name: Fraction(left * left + left)
        for left, tensor in zip(range(len(others), 0, -1), others, strict=True)
    }


RULES: dict[str, Rule] = {"uniform": _uniform, "uniform_plus": _uniform_plus, "erk": _erk, "smart_ratio": _smart_ratio}


def densities(tensors: Sequence[PrunableTensor], scope: str, total: int) -> dict[str, Fraction]:
    """The exact density of every tensor, so that `total` weights remain of all of them.

    Layers whose density would pass 1 stay dense and the others are solved again (Evci et al. 2020). Raises
    InvalidExperiment where the layers that the scope fixes hold more than `total` already.
    """
    sizes = {tensor.name: tensor.size for tensor in tensors}
    fixed, ratios = RULES[scope](tensors, Fraction(total, sum(sizes.values())))
    while True:
        left = total - sum(density * sizes[name] for name, density in fixed.items())
        if left < 0 or (left > 0 and not ratios):
            held = ", ".join(f"{name} at {float(density):.3g}" for name, density in fixed.items())
            raise InvalidExperiment(
                f"pruning.scope {scope!r} fixes {held}, which does not go with {total} weights in "
                "all; choose another density or another scope"
            )
        if not ratios:
            break
        scale = Fraction(left, sum(ratio * sizes[name] for name, ratio in ratios.items()))
        full = [name for name, ratio in ratios.items() if ratio * scale > 1]
        if not full:
            fixed.update({name: ratio * scale for name, ratio in ratios.items()})
            break
        for name in full:
            fixed[name] = Fraction(1)
            del ratios[name]
    return {tensor.name: fixed[tensor.name] for tensor in tensors}


def counts(
    tensors: Sequence[PrunableTensor], scope: str, total: int, before: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Weights that remain of every tensor; they add up to `total`.

    Densities are rounded down and the weights left over go to the largest remainders (the first among equals), but to
    none that would then have more than `before`, the counts of a larger total: a pruned weight never returns.
    """
    sizes = {tensor.name: tensor.size for tensor in tensors}
    exact = {name: density * sizes[name] for name, density in densities(tensors, scope, total).items()}
    return _largest_remainder(exact, total, before or sizes)


def _largest_remainder(exact: Mapping[str, Fraction], total: int, most: Mapping[str, int]) -> dict[str, int]:
    found = {name: math.floor(value) for name, value in exact.items()}
    order = sorted(exact, key=lambda name: found[name] - exact[name])  # stable: the first among equals
    while (left := total - sum(found.values())) > 0:
        for name in [name for name in order if found[name] < most[name]][:left]:
            found[name] += 1
    return found
