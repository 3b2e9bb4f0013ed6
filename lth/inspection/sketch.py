"""What a factory has built, in a few numbers: for other processes to see that theirs builds the same."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from torch import nn

CLOSE = 1e-4
"""How far sums may lie from each other, in norms: processors differ in the last bits, draws in everything."""


@dataclass(frozen=True)
class Sketch:
    """The sum and the norm of every parameter and buffer, in the order of the module, by name."""

    tensors: tuple[tuple[str, float, float], ...]

    @classmethod
    def of(cls, module: nn.Module) -> Sketch:
        named = [*module.named_parameters(), *module.named_buffers()]
        numbers = ((name, tensor.detach().double()) for name, tensor in named)
        return cls(tuple((name, float(tensor.sum()), float(tensor.norm())) for name, tensor in numbers))

    @property
    def whole(self) -> list[float]:
        """Two numbers for all of it: the sums and norms, each times a number that its name stands for."""
        sums = math.fsum(_number(name) * total for name, total, _ in self.tensors)
        return [sums, math.sqrt(math.fsum(_number(name) * norm**2 for name, _, norm in self.tensors))]

    def agrees(self, whole: object) -> bool:
        """Whether `whole` may be this one's, as far as two numbers tell; True for what are no two numbers."""
        if not isinstance(whole, list) or len(whole) != 2 or not all(isinstance(each, float) for each in whole):
            return True
        scale = CLOSE * max(self.whole[1], whole[1], 1e-12)
        return all(_close(ours, theirs, scale) for ours, theirs in zip(self.whole, whole, strict=True))

    def difference(self, other: Sketch) -> str | None:
        """The first name, quoted, that only one of them has at its place, or whose tensor differs; None: none."""
        for (name, total, norm), (there, sum_there, norm_there) in zip(self.tensors, other.tensors, strict=False):
            if name != there:
                return f"{name!r} stands where {there!r} stood"
            scale = CLOSE * max(norm, norm_there, 1e-12)
            if not (_close(total, sum_there, scale) and _close(norm, norm_there, scale)):
                return f"{name!r} differs"
        if len(self.tensors) != len(other.tensors):
            longer = max(self.tensors, other.tensors, key=len)
            return f"{longer[min(len(self.tensors), len(other.tensors))][0]!r} is new or gone"
        return None


def _number(name: str) -> float:
    """From 1 to 2, by the letters of a name."""
    return 1 + int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little") / 2**32


def _close(a: float, b: float, scale: float) -> bool:
    return abs(a - b) <= scale if math.isfinite(a) and math.isfinite(b) else repr(a) == repr(b)
