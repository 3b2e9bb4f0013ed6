"""How many weights remain at each level: exact counts, the same on every machine.

One level removes `round(p * n)` of the n weights that a tensor has left (ties to even), computed in exact rational
arithmetic from the decimal digits of p, so that 0.275 * 220 is 60.5, which rounds to 60, and not 60.50000000000001.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from lth.errors import InvalidExperiment
from lth.models.structure import PrunableTensor


def layer_fraction(
    tensor: PrunableTensor, dense: float | None, conv: float | None, output_factor: float
) -> Fraction:
    """The fraction of a tensor's remaining weights that one level removes; 0 when its kind is never pruned."""
    rate = dense if tensor.kind == "dense" else conv
    if rate is None:
        return Fraction(0)
    return Fraction(str(rate)) * (Fraction(str(output_factor)) if tensor.output else 1)


def remaining_per_level(size: int, fraction: Fraction, levels: int) -> list[int]:
    """Weights left of `size` after 0, 1, ... `levels` levels."""
    counts = [size]
    for _ in range(levels):
        counts.append(counts[-1] - round(fraction * counts[-1]))
    return counts


def ladder(
    tensors: Sequence[PrunableTensor], fractions: Sequence[Fraction], levels: int, scope: str
) -> list[dict[str, int]]:
    """For each level, the weights that remain: per tensor (scope `layer`), or of the competing tensors together.

    With scope `global` the tensors whose fraction is above 0 form one group, under the key "" (empty); the others
    keep every weight. Raises InvalidExperiment naming the layer and the level that would be left empty.
    """
    if scope == "layer":
        groups = {tensor.name: (tensor.size, fraction) for tensor, fraction in zip(tensors, fractions, strict=True)}
    else:
        competing = [(t, f) for t, f in zip(tensors, fractions, strict=True) if f > 0]
        groups = {t.name: (t.size, Fraction(0)) for t, f in zip(tensors, fractions, strict=True) if f == 0}
        if competing:
            groups[""] = (sum(t.size for t, _ in competing), competing[0][1])
    counts = {name: remaining_per_level(size, fraction, levels) for name, (size, fraction) in groups.items()}
    for name, series in counts.items():
        if series and series[-1] <= 0:
            level = series.index(0)
            raise InvalidExperiment(
                f"level {level} would leave {f'layer {name!r}' if name else 'all competing layers'} empty "
                f"(of {series[0]} weights); "
                f"use at most {level - 1} levels or a smaller pruning.fraction")
    return [{name: series[level] for name, series in counts.items()} for level in range(levels + 1)]
