"""Uniform and normal numbers that are the same to the bit on every processor.

torch's generator yields the same integers everywhere. What its CPU kernels make of them is not: a uniform number in
another range than [0, 1) is rounded once where the processor can fuse a product and a sum, else twice; and 16 or more
normal numbers come from the polynomials of a vector unit where there is one, else from the C library. Everything else
that torch draws (integers, permutations, Bernoulli for dropout, exponential, fewer than 16 normal numbers, ...) is the
same with every instruction set. So both are computed here from numbers in [0, 1), with NumPy's sums, products and
square roots, which IEEE 754 leaves no freedom; the results are to the bit those of torch on a processor with AVX2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

Floats = NDArray[np.float32]

GROUP = 16
"""torch turns this many uniform numbers at a time into normal ones; the rest of a tensor is drawn once more."""

_LOG = (  # of Cephes' logf
    *(7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1),
    *(-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
)
_SINE = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)  # of Cephes' sinf
_COSINE = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)  # of Cephes' cosf
_PI_OVER_4 = (0.78515625, 2.4187564849853515625e-4, 3.77489497744594108e-8)  # in three parts


def portable_draws() -> AbstractContextManager[object]:
    """Within it whatever torch draws on the CPU is what it draws on a processor with AVX2; it costs nothing there."""
    fuses = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return nullcontext() if fuses else PortableDraws()


class PortableDraws(TorchDispatchMode):
    """Puts `uniform` and `normal` in the place of torch's kernels, whoever calls them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named, aten = dict(kwargs or {}), torch.ops.aten
        generator = named.get("generator") or torch.default_generator
        if func in (aten.uniform_.default, aten.normal_.default) and args[0].device.type == "cpu":
            first = args[1] if len(args) > 1 else named.get("from", named.get("mean", 0.0))
            second = args[2] if len(args) > 2 else named.get("to", named.get("std", 1.0))
            fill = uniform if func is aten.uniform_.default else normal
            return fill(args[0], float(first), float(second), generator)
        drawn = func.overloadpacket in (aten.randn, aten.randn_like, aten.normal)
        if not drawn or generator.device.type != "cpu":
            return func(*args, **named)
        before = generator.get_state()
        made = func(*args, **named)
        if made.device.type == "cpu":
            generator.set_state(before)
            if func.overloadpacket is not aten.normal:
                normal(made, 0.0, 1.0, generator)
            elif func is aten.normal.float_float:
                normal(made, args[0], args[1], generator)
            else:  # means, deviations or both are tensors
                std = args[1] if len(args) > 1 else named.get("std", 1.0)
                normal(made, 0.0, 1.0, generator).mul_(std).add_(args[0])
        return made


def uniform(tensor: torch.Tensor, low: float, high: float, generator: torch.Generator | None) -> torch.Tensor:
    """Fill a tensor on the CPU as `tensor.uniform_(low, high)` does with AVX2; it draws the same integers."""
    if tensor.dtype not in (torch.float32, torch.float64):
        return tensor.uniform_(low, high, generator=generator)
    standard = torch.empty_like(tensor, requires_grad=False).uniform_(generator=generator).numpy()
    kind = standard.dtype.type
    return _put(tensor, _fused(standard, kind(high) - kind(low), kind(low)))


def normal(tensor: torch.Tensor, mean: float, std: float, generator: torch.Generator | None) -> torch.Tensor:
    """Fill a tensor on the CPU as `tensor.normal_(mean, std)` does with AVX2; it draws the same integers."""
    size = tensor.numel()
    if tensor.dtype != torch.float32 or size < GROUP or not tensor.is_contiguous():
        return tensor.normal_(mean, std, generator=generator)
    values = torch.empty(size).uniform_(generator=generator).numpy()
    whole = size - size % GROUP
    groups = values[:whole].reshape(-1, 2, GROUP // 2)
    scale, shift = np.float32(std), np.float32(mean)
    groups[:] = _fused(_normal_pairs(groups), scale, shift)
    if whole < size:
        last = torch.empty(GROUP).uniform_(generator=generator).numpy().reshape(1, 2, GROUP // 2)
        values[-GROUP:] = _fused(_normal_pairs(last), scale, shift).reshape(GROUP)
    return _put(tensor, values.reshape(tuple(tensor.shape)))


def _put(tensor: torch.Tensor, values: NDArray[Any]) -> torch.Tensor:
    with torch.no_grad():
        return tensor.copy_(torch.from_numpy(values))


def _normal_pairs(uniforms: Floats) -> Floats:
    """[groups, 2, 8] of uniform numbers to as many normal ones (Box & Muller 1958): the first gives the radius."""
    radius = np.sqrt(np.float32(-2) * _log(np.float32(1) - uniforms[:, 0]))
    sine, cosine = _sine_and_cosine(np.float32(2 * math.pi) * uniforms[:, 1])
    return np.stack([radius * cosine, radius * sine], axis=1)


def _log(x: Floats) -> Floats:
    """The natural logarithm of normal floats in (0, 1] as Cephes has it: of the mantissa by a polynomial."""
    mantissa, exponent = np.frexp(x)
    e = exponent.astype(np.float32)
    small = mantissa < np.float32(math.sqrt(0.5))
    e = e - small.astype(np.float32)
    x = np.where(small, mantissa - np.float32(1) + mantissa, mantissa - np.float32(1))
    z = x * x
    y = _polynomial(_LOG, x) * x
    y = _fused(y, z, e * np.float32(-2.12194440e-4))
    y = _fused(z, np.float32(-0.5), y)
    return _fused(e, np.float32(0.693359375), x + y)


def _sine_and_cosine(x: Floats) -> tuple[Floats, Floats]:
    """Of angles in [0, 2 pi], by Cephes: a polynomial of the distance to the nearest multiple of pi/2."""
    octant = ((x * np.float32(4 / math.pi)).astype(np.int32) + 1) & ~1
    of = octant.astype(np.float32)
    for part in _PI_OVER_4:
        x = _fused(of, np.float32(-part), x)
    z = x * x
    cosine = _polynomial(_COSINE, z) * z
    cosine = _fused(cosine, z, -(z * np.float32(0.5))) + np.float32(1)
    sine = _fused(_polynomial(_SINE, z) * z, x, x)
    swapped = (octant & 2) != 0
    first, second = np.where(swapped, cosine, sine), np.where(swapped, sine, cosine)
    return (
        np.where((octant & 4) != 0, -first, first),
        np.where(((octant - 2) & 4) == 0, -second, second),
    )


def _polynomial(coefficients: Sequence[float], x: Floats) -> Floats:
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = _fused(value, x, np.float32(coefficient))
    return value


def _fused(a: NDArray[Any], b: Any, c: Any) -> NDArray[Any]:
    """a * b + c, rounded once, of float32 or float64."""
    if a.dtype == np.float64:
        high, low = _product(a, np.float64(b))
        total, rest = _sum(high, c)
        whole: NDArray[Any] = total + (rest + low)
        return whole
    product = a.astype(np.float64) * np.float64(b)  # exact: 48 of 53 bits
    total, rest = _sum(product, np.asarray(c, np.float64))
    # Rounded to odd, float64 does not change how the sum is rounded to float32 (Boldo & Melquiond 2008).
    even = (total.view(np.int64) & 1) == 0
    odd = np.where(even & (rest != 0), np.nextafter(total, np.where(rest > 0, np.inf, -np.inf)), total)
    rounded: Floats = odd.astype(np.float32)
    return rounded


def _sum(a: Any, b: Any) -> tuple[Any, Any]:
    """The sum and what rounding it lost (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _product(a: Any, b: Any) -> tuple[Any, Any]:
    """The product of float64 and what rounding it lost (Dekker), for numbers of ordinary size."""
    product = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2


def _halves(a: Any) -> tuple[Any, Any]:
    shifted = a * 134217729.0  # 2**27 + 1
    upper = shifted - (shifted - a)
    return upper, a - upper
