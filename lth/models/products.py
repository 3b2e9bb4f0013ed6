"""Which parameters multiply what flows through a network: seen in the kernels of one run, never in names.

A parameter is followed by the memory it lies in, through views, copies and whatever is computed from it alone. Where
such a tensor meets one that depends on the inputs in a matrix product or a convolution, it is a weight. Where it is
computed first (weight norm, a mask), it counts as one if every entry of the computed weight is zero exactly where the
parameter is: that is tried with numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from lth.models.calling import call
from lth.streams import stream

LOOKED_UP = "is looked up, not multiplied"
NORM = "is part of a norm"
SCALES_VALUES = "multiplies values one by one"
FLOWS = "is what layers are given, not what they multiply it with"
ADDED = "is added to values or put beside them"
SCALES_WEIGHT = "scales a weight"
COMPUTED = "is mixed into a computed weight, which is not zero where it is"
UNUSED = "takes no part in the outputs for blank examples"

# Operands of a product: (those that are multiplied with one another).
_PRODUCTS: dict[str, tuple[int, ...]] = {
    "mm": (0, 1),
    "bmm": (0, 1),
    "addmm": (1, 2),
    "baddbmm": (1, 2),
    "addbmm": (1, 2),
    "mv": (0, 1),
    "addmv": (1, 2),
    "dot": (0, 1),
    "vdot": (0, 1),
    "linear": (0, 1),
    "convolution": (0, 1),
    "_trilinear": (0, 1, 2),
    "mkldnn_rnn_layer": (0, 1, 2),
}
_ATTENTION = "_scaled_dot_product"
_LOOK_UPS = ("embedding", "index", "gather", "take")
# Functions whose first arguments are what flows, also where that is a constant or a parameter.
_GIVEN: dict[Callable[..., Any], int] = {
    functional.linear: 1,
    functional.bilinear: 2,
    functional.conv1d: 1,
    functional.conv2d: 1,
    functional.conv3d: 1,
    functional.conv_transpose1d: 1,
    functional.conv_transpose2d: 1,
    functional.conv_transpose3d: 1,
    functional.multi_head_attention_forward: 3,
}


@dataclass
class Products:
    """What one run has shown, by parameter name.

    `order`: the weights as they ran, once for every product. `kinds`, `multiplications` (of all examples together) and
    `fan_in` (how many of its entries make one number) are theirs, and those of parameters that are only mixed into
    weights. `computed` are weights that something is done to first. `others` says of parameters why they are no weights
    that can be pruned, `beside` what they did elsewhere than in products.
    """

    order: list[str] = field(default_factory=list)
    kinds: dict[str, Literal["dense", "conv"]] = field(default_factory=dict)
    multiplications: dict[str, int] = field(default_factory=dict)
    fan_in: dict[str, int] = field(default_factory=dict)
    computed: set[str] = field(default_factory=set)
    others: dict[str, str] = field(default_factory=dict)
    beside: dict[str, str] = field(default_factory=dict)


def watch_products(module: nn.Module, inputs: torch.Tensor) -> tuple[Any, Products]:
    """What `module` answers to `inputs` as it is, in its mode, and what its parameters did meanwhile."""
    parameters = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
    watch = _Kernels(parameters, inputs)
    with torch.no_grad(), _plain_attention(), watch, _Given(watch):
        answer = call(module, {**buffers, **parameters}, inputs)
    return answer, watch.found


@dataclass
class _Origin:
    """What a piece of memory was made of: of the inputs (`flows`), or of parameters: the zeros of `whole` ones are its
    own; `scales` and `mixed` are those of which that is not so."""

    flows: bool = False
    whole: frozenset[str] = frozenset()
    scales: frozenset[str] = frozenset()
    mixed: frozenset[str] = frozenset()

    @property
    def parameters(self) -> frozenset[str]:
        return self.whole | self.scales | self.mixed


class _Kernels(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the compiler is imported, which takes seconds

    def __init__(self, parameters: Mapping[str, torch.Tensor], inputs: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = Products()
        self.sizes = {name: tensor.numel() for name, tensor in parameters.items()}
        self.matrices = {name for name, tensor in parameters.items() if tensor.ndim > 1}
        self.homes = {name: tensor.untyped_storage()._cdata for name, tensor in parameters.items()}
        self.origins: dict[int, _Origin] = {}
        self.given: frozenset[int] = frozenset()
        self.alive: list[torch.UntypedStorage] = []  # an address means something as long as nothing else has it
        self._set(inputs, _Origin(flows=True))
        for name, tensor in parameters.items():
            self._set(tensor, _Origin(whole=frozenset([name])))

    def _set(self, tensor: torch.Tensor, origin: _Origin) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.origins:
            self.alive.append(storage)
        self.origins[storage._cdata] = origin

    def of(self, tensor: Any) -> _Origin:
        if not isinstance(tensor, torch.Tensor):
            return _Origin()
        key = tensor.untyped_storage()._cdata
        origin = self.origins.get(key, _Origin())
        return _Origin(flows=True) if key in self.given else origin

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        schema = func._schema
        if func.namespace == "prim" or (
            not schema.is_mutable and any(each.alias_info is not None for each in schema.returns)
        ):
            return func(*args, **kwargs)  # a view lies in the same memory
        flat, _ = tree_flatten((args, kwargs))
        tensors = [value for value in flat if isinstance(value, torch.Tensor)]
        origins = [self.of(tensor) for tensor in tensors]
        flows = any(origin.flows for origin in origins)
        name = func.overloadpacket.__name__.rstrip("_")
        if name in _PRODUCTS or name.startswith(_ATTENTION):
            factors = [args[place] for place in _PRODUCTS.get(name, (0, 1, 2))]
            answer = func(*args, **kwargs)
            made = self._product(name, factors, args, answer)
            beside = [tensor for tensor in tensors if all(tensor is not factor for factor in factors)]
            if made.flows:
                self._spent(beside, name)
            made = _Origin(
                made.flows, mixed=made.mixed | _names(map(self.of, beside)) if not made.flows else made.mixed
            )
            origins_out: list[_Origin] | None = None
        elif flows:
            answer = func(*args, **kwargs)
            self._spent(tensors, name)
            made, origins_out = _Origin(flows=True), None
        elif any(origin.parameters for origin in origins):
            origins_out = self._derived(func, args, kwargs)
            answer = func(*args, **kwargs)
            made = _Origin()
        else:
            return func(*args, **kwargs)
        known = {tensor.untyped_storage()._cdata for tensor in tensors}
        outputs = [value for value in tree_flatten(answer)[0] if isinstance(value, torch.Tensor)]
        for position, output in enumerate(outputs):
            if schema.is_mutable or output.untyped_storage()._cdata not in known:  # else it is the same memory
                self._set(output, made if origins_out is None else origins_out[position])
        return answer

    def _product(self, name: str, factors: Sequence[Any], args: Sequence[Any], answer: Any) -> _Origin:
        """Note the weights among the factors; what the product is made of."""
        origins = [self.of(factor) for factor in factors]
        signals = [
            origin.flows or (not origin.parameters and isinstance(factor, torch.Tensor) and factor.ndim > 1)
            for origin, factor in zip(origins, factors, strict=True)
        ]
        output = answer[0] if isinstance(answer, tuple) else answer
        for place, (origin, factor) in enumerate(zip(origins, factors, strict=True)):
            if origin.flows or not origin.parameters or not any(signals[:place] + signals[place + 1 :]):
                continue
            self._weight(name, place, origin, factor, factors, args, output)
        if any(signals) and any(origin.flows or origin.parameters for origin in origins):
            return _Origin(flows=True)
        return _Origin(mixed=_names(origins))

    def _weight(
        self,
        name: str,
        place: int,
        origin: _Origin,
        factor: torch.Tensor,
        factors: Sequence[torch.Tensor],
        args: Sequence[Any],
        output: torch.Tensor,
    ) -> None:
        entries = math.prod(size for size, step in zip(factor.shape, factor.stride(), strict=True) if step)
        total, fan_in = _arithmetic(name, place, factors, args, output)
        each = total // max(entries, 1)
        found = self.found
        for parameter in sorted(origin.whole | origin.mixed, key=list(self.sizes).index):
            found.kinds.setdefault(parameter, "conv" if name == "convolution" else "dense")
            found.fan_in.setdefault(parameter, fan_in)
            found.multiplications[parameter] = found.multiplications.get(parameter, 0) + each * min(
                entries, self.sizes[parameter]
            )
            if parameter in origin.whole:
                found.order.append(parameter)
                if factor.untyped_storage()._cdata != self.homes[parameter]:
                    found.computed.add(parameter)
            else:
                found.others[parameter] = COMPUTED
        for parameter in origin.scales - origin.whole - origin.mixed:
            found.others.setdefault(parameter, SCALES_WEIGHT)

    def _spent(self, tensors: Sequence[torch.Tensor], name: str) -> None:
        """Parameters that meet what flows elsewhere than in a product."""
        for tensor in tensors:
            origin = self.of(tensor)
            for parameter in () if origin.flows else origin.parameters:
                self.found.beside.setdefault(parameter, _how(name))

    def _derived(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[_Origin]:
        """Of every output of an operation on parameters alone, what it is made of."""
        flat, shape = tree_flatten((args, kwargs))
        places = [place for place, value in enumerate(flat) if isinstance(value, torch.Tensor)]
        made = [place for place in places if self.of(flat[place]).parameters]
        generator = stream(0, "products")
        origins: list[_Origin] = []
        for place in made:
            origin = self.of(flat[place])
            if origin.whole & self.matrices:
                keeps = _keeps_zeros(func, flat, shape, place, places, made, generator)
            else:
                keeps = ["mixed"] * len(func._schema.returns)
            for position, kept in enumerate(keeps):
                if position == len(origins):
                    origins.append(_Origin())
                before = origins[position]
                origins[position] = _Origin(
                    False,
                    before.whole | (origin.whole if kept == "whole" else frozenset()),
                    before.scales
                    | (origin.scales if kept != "mixed" else frozenset())
                    | (origin.whole if kept == "scales" else frozenset()),
                    before.mixed | origin.mixed | (origin.parameters if kept == "mixed" else frozenset()),
                )
        return [
            _Origin(False, origin.whole, origin.scales - origin.whole, origin.mixed - origin.whole)
            for origin in origins
        ]


def _keeps_zeros(
    func: Any,
    flat: list[Any],
    shape: Any,
    place: int,
    places: list[int],
    made: list[int],
    generator: torch.Generator,
) -> list[Literal["whole", "scales", "mixed"]]:
    """Of every output: `whole` if its entries are zero exactly where the argument's are, each made of one of them;
    `scales` if one makes several entries that others make, too."""
    source = flat[place]
    values = [value.clone() if isinstance(value, torch.Tensor) else value for value in flat]
    for other in made:
        values[other] = _some(flat[other], generator)
    keep = torch.rand(source.shape, generator=generator) < 0.5

    def outputs(argument: torch.Tensor) -> list[torch.Tensor]:
        given = [value.clone() if isinstance(value, torch.Tensor) else value for value in values]
        given[place] = argument.clone()
        arguments, named = tree_unflatten(given, shape)
        return [each for each in tree_flatten(func(*arguments, **named))[0] if isinstance(each, torch.Tensor)]

    full, first, second = (
        outputs(argument) for argument in (values[place], values[place] * keep, values[place] * ~keep)
    )
    alone = all(other == place or not flat[other].is_floating_point() for other in places)
    found: list[Literal["whole", "scales", "mixed"]] = []
    for whole, one, two in zip(full, first, second, strict=True):
        if not (whole.shape == one.shape == two.shape):
            found.append("mixed")
            continue
        untouched = (whole == one) & (whole == two)
        fits = untouched | ((one == 0) ^ (two == 0))
        if not bool(fits.all()):
            found.append("mixed")
        elif not alone and int((~untouched).sum()) > source.numel():
            found.append("scales")
        else:
            found.append("whole")
    return found


def _some(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Numbers of that shape and type, none of them zero; integers stay."""
    if not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool):
        return tensor.clone()
    return (torch.rand(tensor.shape, generator=generator) + 0.5).to(tensor.dtype)


def _names(origins: Iterator[_Origin] | Sequence[_Origin]) -> frozenset[str]:
    return frozenset(name for origin in origins for name in origin.parameters)


def _how(name: str) -> str:
    if any(part in name for part in _LOOK_UPS):
        return LOOKED_UP
    if "norm" in name:
        return NORM
    return SCALES_VALUES if name in ("mul", "div", "addcmul") else ADDED


def _arithmetic(
    name: str, place: int, factors: Sequence[torch.Tensor], args: Sequence[Any], output: torch.Tensor
) -> tuple[int, int]:
    """Multiplications of a product, and how many entries of the factor at `place` are summed for one number."""
    factor = factors[place]
    if name == "convolution":
        transposed = args[6]
        met, channels = (factors[0], factors[0].shape[1]) if transposed else (output, output.shape[1])
        fan_in = math.prod(factor.shape[1:]) if not transposed else factor.numel() // max(factor.shape[1], 1)
        return met.numel() // max(channels, 1) * factor.numel(), fan_in
    if name == "mkldnn_rnn_layer":
        return math.prod(factors[0].shape[:2]) * factor.numel(), factor.shape[1]
    if name == "_trilinear":
        return output.numel() * math.prod(factor.shape[1:]), math.prod(factor.shape[1:])
    if name.startswith(_ATTENTION):
        queries, keys = factors[0], factors[1]
        return queries.numel() * keys.shape[-2], keys.shape[-1]
    summed = factors[0].shape[-1]
    return output.numel() * summed, summed


class _Given(TorchFunctionMode):
    """What a layer is given flows through it, whatever it was made of."""

    def __init__(self, watch: _Kernels) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        count = _GIVEN.get(func, 0)
        given = [value for value in [*args, *kwargs.values()][:count] if isinstance(value, torch.Tensor)]
        for tensor in given:
            for name in self.watch.of(tensor).parameters:
                self.watch.found.beside.setdefault(name, FLOWS)
        before = self.watch.given
        self.watch.given = before | {tensor.untyped_storage()._cdata for tensor in given}
        try:
            return func(*args, **kwargs)
        finally:
            self.watch.given = before


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Within it attention runs operation by operation, not as one kernel that hides its weights."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
