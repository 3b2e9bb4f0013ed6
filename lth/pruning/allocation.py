"""How a density of the whole network is shared out among its layers before any weight is scored.

Scopes say how (see `lth.pruning.scopes`); the counts add up to the asked total exactly. One rule serves all:
density_l = min(1, e * r_l), where r_l is what the scope says of layer l and e is solved so that the total comes out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from lth.errors import InvalidExperiment
from lth.models.structure import PrunableTensor
from lth.pruning.scopes import SCOPES, Shares


def densities(tensors: Sequence[PrunableTensor], scope: str, total: int) -> dict[str, Fraction]:
    """The exact density of every tensor, so that `total` weights remain of all of them.

    Layers whose density would pass 1 stay dense and the others are solved again (Evci et al. 2020). Raises
    InvalidExperiment where the layers that the scope fixes hold more than `total` already.
    """
    sizes = {tensor.name: tensor.size for tensor in tensors}
    fixed, ratios = _shares(tensors, scope, total)
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
    """Weights that remain of every tensor, and under the key "" of those together that compete; they add up to `total`.

    Densities are rounded down and the weights left over go to the largest remainders (the first among equals), but to
    none that would then have more than `before`, the counts of a larger total: a pruned weight never returns.
    """
    sizes = {tensor.name: tensor.size for tensor in tensors}
    fixed, ratios = _shares(tensors, scope, total)
    free = [name for name in sizes if name not in fixed and name not in ratios]
    if len(free) == len(sizes):
        return {"": total}
    if free:
        return _with_competition(scope, sizes, fixed, ratios, free, total)
    exact = {name: density * sizes[name] for name, density in densities(tensors, scope, total).items()}
    return _largest_remainder(exact, total, before or sizes)


def all_compete(tensors: Sequence[PrunableTensor], scope: str) -> bool:
    """Whether nothing is shared out: all tensors compete with one another."""
    return not any(_shares(tensors, scope, sum(tensor.size for tensor in tensors)))


def _shares(tensors: Sequence[PrunableTensor], scope: str, total: int) -> Shares:
    rule = SCOPES[scope].rule
    if rule is None:
        raise ValueError(f"scope {scope!r} has no density to share out: every layer has a fraction of its own")
    return rule(tensors, Fraction(total, sum(tensor.size for tensor in tensors)))


def _with_competition(
    scope: str,
    sizes: Mapping[str, int],
    fixed: Mapping[str, Fraction],
    ratios: Mapping[str, Fraction],
    free: Sequence[str],
    total: int,
) -> dict[str, int]:
    """Layers of fixed density, rounded down, and one competition of all others for what is left."""
    kept = {name: math.floor(density * sizes[name]) for name, density in fixed.items()}
    left = total - sum(kept.values())
    if ratios or not 0 <= left <= sum(sizes[name] for name in free):
        raise InvalidExperiment(
            f"pruning.scope {scope!r} says of {', '.join(ratios or kept)} what leaves {left} weights to "
            f"{', '.join(free)}, which compete; choose another density or another scope"
        )
    return {**kept, "": left}


def _largest_remainder(exact: Mapping[str, Fraction], total: int, most: Mapping[str, int]) -> dict[str, int]:
    counts = {name: math.floor(value) for name, value in exact.items()}
    order = sorted(exact, key=lambda name: counts[name] - exact[name])  # stable: the first among equals
    while (left := total - sum(counts.values())) > 0:
        for name in [name for name in order if counts[name] < most[name]][:left]:
            counts[name] += 1
    return counts
