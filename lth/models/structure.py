"""What can be pruned: found from the module itself by running it once, never from names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from lth.errors import InvalidExperiment, in_one_line
from lth.models.calling import call
from lth.models.modes import evaluating
from lth.models.products import COMPUTED, UNUSED, Products, watch_products
from lth.streams import own_randomness

_EXAMPLES = 2  # blank images that the network is run on

FROZEN = "is frozen (requires_grad is False)"
VECTOR = "is a vector or a number: biases, scales and norms are never pruned"
NO_ENTRIES = "has no entries"
NOT_A_NUMBER = "makes a layer that is no number where a row or column of it is zero"
NOT_CHOSEN = "is not in model.prunable"


@dataclass(frozen=True)
class PrunableTensor:
    """One weight tensor that may be pruned: its parameter name, shape, kind of layer, and whether it is the output.

    `positions` is how often each of its weights is applied to one example in a forward pass: once in a dense layer,
    at every position of a sequence or of a convolution's output (of a transposed convolution's input), summed over
    all places where the network uses the tensor; 1 where it uses it nowhere. `size` times `positions` are its
    multiplications. `fan_in` is how many of its entries are summed for one number; 0 where that is not known.
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["dense", "conv"]
    output: bool
    positions: int = 1
    fan_in: int = 0

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class LeftDense:
    """A parameter that is never pruned, and why: `name` and `reason` are a sentence.

    `trained` is False where it is frozen (`requires_grad` is False).
    """

    name: str
    shape: tuple[int, ...]
    reason: str
    trained: bool = True

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Structure:
    """Every parameter of a module, once: what may be pruned, in the order of running, and what stays dense.

    `matrices` are all weights that take part in products and can be pruned, chosen or not; `elsewhere` those weights
    that take part and are not in `prunable`: not chosen, frozen, or mixed into a computed weight.
    """

    prunable: tuple[PrunableTensor, ...]
    dense: tuple[LeftDense, ...]
    matrices: tuple[PrunableTensor, ...]
    elsewhere: tuple[PrunableTensor, ...]


def prunable_tensors(
    module: nn.Module,
    input_shape: Sequence[int],
    classes: int,
    prunable: Sequence[str] | None = None,
    output_layer: str | None = None,
) -> tuple[PrunableTensor, ...]:
    """`structure_of(...).prunable`."""
    return structure_of(module, input_shape, classes, prunable, output_layer).prunable


def structure_of(
    module: nn.Module,
    input_shape: Sequence[int],
    classes: int,
    prunable: Sequence[str] | None = None,
    output_layer: str | None = None,
) -> Structure:
    """What takes part in `module` and can be pruned, and what stays dense and why.

    Prunable is every trained matrix or filter that multiplies what flows through the network, whoever calls it: in
    layers, functions, attention, recurrent cells, or computed first (weight norm, a mask) if its zeros stay zeros.
    The output layer is the last of them to run. `prunable` and `output_layer` (parameter names) override what is found.
    Raises InvalidExperiment if the network does not accept inputs of `input_shape`, does not answer with
    [batch, classes] logits, or trains parameters of another type than float32.
    """
    parameters = dict(module.named_parameters())
    for name, parameter in parameters.items():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            raise InvalidExperiment(
                f"parameter {name!r} of the model is {str(parameter.dtype).removeprefix('torch.')}; networks are "
                "trained in float32: make it so (`.float()`), or freeze it (requires_grad_(False))"
            )
    found = _watched(module, input_shape, classes)
    ran = [name for name in found.order if parameters[name].ndim > 1 and parameters[name].numel()]
    weights = list(dict.fromkeys(ran))
    output = (ran[-1] if ran else None) if output_layer is None else output_layer
    able = [name for name in weights if name not in found.others and parameters[name].requires_grad]
    chosen = (
        able
        if prunable is None
        else [*(name for name in able if name in prunable), *(name for name in prunable if name not in able)]
    )
    _check(chosen, [] if output_layer is None else [output_layer], parameters, found)
    if not chosen:
        raise InvalidExperiment("the model has no dense or convolutional layer to prune; name some in model.prunable")

    def tensors(names: Sequence[str]) -> tuple[PrunableTensor, ...]:
        return tuple(_tensor(name, parameters[name], found, name == output) for name in dict.fromkeys(names))

    multiplied = [*weights, *(name for name in found.multiplications if name not in weights)]
    return Structure(
        tensors(chosen),
        tuple(
            LeftDense(name, tuple(parameter.shape), _why(name, parameter, found), parameter.requires_grad)
            for name, parameter in parameters.items()
            if name not in chosen
        ),
        tensors(able),
        tensors([name for name in multiplied if name not in chosen and parameters[name].ndim > 1]),
    )


def _watched(module: nn.Module, input_shape: Sequence[int], classes: int) -> Products:
    """What the parameters do for two blank examples, in evaluation mode."""
    blank = torch.zeros(_EXAMPLES, *input_shape)
    with evaluating(module), own_randomness(0, "structure"):
        try:
            logits, found = watch_products(module, blank)
        except Exception as error:
            raise InvalidExperiment(
                f"the model does not run on inputs of shape {tuple(input_shape)}: "
                f"{in_one_line(error)}; mend the network or model.arguments"
            ) from None
        if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (_EXAMPLES, classes):
            shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise InvalidExperiment(
                f"the model answers two examples with {shape}, not with logits of shape (2, {classes}); "
                "end it in one logit per class"
            )
        for name in sorted(found.computed):
            if name not in found.others and not _survives_zeros(module, name, blank):
                found.others[name] = NOT_A_NUMBER
    return found


def _survives_zeros(module: nn.Module, name: str, blank: torch.Tensor) -> bool:
    """Whether the outputs are still numbers with the first row, or column, of that parameter zero."""
    tensors = {**dict(module.named_buffers()), **dict(module.named_parameters())}
    tensors = {each: tensor.detach().clone() for each, tensor in tensors.items()}
    for dim in range(tensors[name].ndim):
        holed = tensors[name].clone()
        holed.select(dim, 0).zero_()
        with torch.no_grad():
            if bool(call(module, {**tensors, name: holed}, blank).isnan().any()):
                return False
    return True


def _check(chosen: Sequence[str], output: Sequence[str], parameters: dict[str, nn.Parameter], found: Products) -> None:
    """Refuse names of model.prunable and model.output_layer that cannot be."""
    for name in [*chosen, *output]:
        if name not in parameters:
            raise InvalidExperiment(f"the model has no parameter {name!r}; it has {', '.join(parameters)}")
        if parameters[name].ndim < 2:
            raise InvalidExperiment(
                f"parameter {name!r} has shape {tuple(parameters[name].shape)}; "
                "only weight matrices and filters are pruned, never biases or norms"
            )
    for name in chosen:
        why = _why(name, parameters[name], found)
        if why in (FROZEN, NO_ENTRIES, COMPUTED, NOT_A_NUMBER):
            raise InvalidExperiment(f"parameter {name!r} cannot be pruned: it {why}; take it out of model.prunable")


def _why(name: str, parameter: nn.Parameter, found: Products) -> str:
    """Why a parameter that is not chosen stays dense."""
    if not parameter.requires_grad:
        return FROZEN
    if not parameter.numel():
        return NO_ENTRIES
    if parameter.ndim < 2:
        return VECTOR
    if name in found.order and name not in found.others:
        return NOT_CHOSEN
    return found.others.get(name) or found.beside.get(name, UNUSED)


def _tensor(name: str, parameter: nn.Parameter, found: Products, output: bool) -> PrunableTensor:
    multiplications = found.multiplications.get(name, 0)
    return PrunableTensor(
        name,
        tuple(parameter.shape),
        found.kinds.get(name, "dense" if parameter.ndim == 2 else "conv"),
        output,
        max(multiplications // max(parameter.numel() * _EXAMPLES, 1), 1),
        found.fan_in.get(name, 0),
    )
