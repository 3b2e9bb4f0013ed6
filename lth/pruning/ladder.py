"""How many weights remain at each level: exact counts, the same on every machine.

One level removes `round(p * n)` of the n weights that a tensor has left (ties to even), computed in exact rational
arithmetic from the decimal digits of p, so that 0.275 * 220 is 60.5, which rounds to 60, and not 60.50000000000001.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from lth.errors import InvalidExperiment
from lth.models.structure import PrunableTensor
from lth.pruning import allocation
from lth.pruning.scopes import SCOPES
from lth.pruning.scopes.layer import remaining_per_level


def layer_fraction(tensor: PrunableTensor, dense: float | None, conv: float | None, output_factor: float) -> Fraction:
    """The fraction of a tensor's remaining weights that one level removes; 0 when its kind is never pruned."""
    rate = dense if tensor.kind == "dense" else conv
    if rate is None:
        return Fraction(0)
    return Fraction(str(rate)) * (Fraction(str(output_factor)) if tensor.output else 1)


def ladder(
    tensors: Sequence[PrunableTensor],
    fractions: Sequence[Fraction],
    levels: int,
    scope: str,
    densities: Sequence[float] | None = None,
    allow_empty: bool = False,
) -> list[dict[str, int]]:
    """For each level, the weights that remain: per tensor, or of the competing tensors together.

    Tensors whose fraction is 0 are never pruned. Scopes without a rule: each tensor by its own fraction. Other scopes:
    the tensors form one group whose total falls by their fraction, or to `densities[level - 1]` of it (half to even),
    and is shared out among them (see `allocation`); those that compete with one another stand under the key "".
    Raises InvalidExperiment naming the layer and the level that would be left empty, unless that is allowed.
    """
    if SCOPES[scope].rule is None:
        series = {
            tensor.name: remaining_per_level(tensor.size, fraction, levels)
            for tensor, fraction in zip(tensors, fractions, strict=True)
        }
        levelled = [{name: counts[level] for name, counts in series.items()} for level in range(levels + 1)]
    else:
        competing = [tensor for tensor, fraction in zip(tensors, fractions, strict=True) if fraction > 0]
        untouched = {tensor.name: tensor.size for tensor in tensors if tensor not in competing}
        size = sum(tensor.size for tensor in competing)
        if densities is None:
            totals = remaining_per_level(size, max(fractions, default=Fraction(0)), levels)
        else:
            totals = [size, *(round(Fraction(str(density)) * size) for density in densities[:levels])]
        levelled = []
        for total in totals:
            levelled.append(_shared_out(competing, scope, total, untouched, levelled[-1] if levelled else None))
    for level, counts in enumerate(levelled):
        for name, count in counts.items():
            if count <= 0 and not allow_empty:
                raise InvalidExperiment(
                    f"level {level} would leave {f'layer {name!r}' if name else 'all competing layers'} empty "
                    f"(of {levelled[0].get(name, 0)} weights); use at most {level - 1} levels, prune less, or set "
                    "pruning.allow_empty_layers"
                )
    return levelled


def _shared_out(
    competing: Sequence[PrunableTensor],
    scope: str,
    total: int,
    untouched: dict[str, int],
    before: Mapping[str, int] | None,
) -> dict[str, int]:
    if not competing:
        return untouched
    dense = {tensor.name: tensor.size for tensor in competing}
    if total == sum(dense.values()) and not allocation.all_compete(competing, scope):
        return {**untouched, **dense}  # a dense network may not go with the densities that a rule fixes
    return {**untouched, **allocation.counts(competing, scope, total, before)}


def between(before: Mapping[str, int], after: Mapping[str, int], rounds: int) -> list[dict[str, int]]:
    """The counts after each of `rounds` inner rounds: n (k / n)^(r / rounds), an exponential ladder from n to k.

    With n = all weights this is the schedule of Tanaka et al. (2020), density rho^(r / rounds) after round r. The last
    round is `after` itself; an empty target is reached in the last round only.
    """
    steps = []
    for number in range(1, rounds):
        steps.append(
            {
                name: round(count * (max(after[name], 1) / count) ** (number / rounds)) if count else 0
                for name, count in before.items()
            }
        )
    return [*steps, dict(after)]
