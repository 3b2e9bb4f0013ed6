"""What can be pruned: found from the module itself by running it once, never from names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from lth.errors import InvalidExperiment, in_one_line

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_EXAMPLES = 2  # blank images that the network is run on


@dataclass(frozen=True)
class PrunableTensor:
    """One weight tensor that may be pruned: its parameter name, shape, kind of layer, and whether it is the output.

    `positions` is how often each of its weights is applied to one example in a forward pass: once in a dense layer,
    at every position of a sequence or of a convolution's output (of a transposed convolution's input), summed over
    the layers that share the tensor; 1 where no layer runs it. `size` times `positions` are its multiplications.
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["dense", "conv"]
    output: bool
    positions: int = 1

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class LeftDense:
    """A parameter that is never pruned, and why; `trained` is False where it is frozen (`requires_grad` is False)."""

    name: str
    shape: tuple[int, ...]
    reason: str
    trained: bool = True

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Structure:
    """Every parameter of a module, once: what may be pruned, in the order of running, and what stays dense."""

    prunable: tuple[PrunableTensor, ...]
    dense: tuple[LeftDense, ...]


def structure_of(
    module: nn.Module,
    input_shape: Sequence[int],
    classes: int,
    prunable: Sequence[str] | None = None,
    output_layer: str | None = None,
) -> Structure:
    """What can be pruned in `module`, what stays dense and why; raises as `prunable_tensors` does."""
    found = prunable_tensors(module, input_shape, classes, prunable, output_layer)
    chosen = {tensor.name for tensor in found}
    return Structure(
        found,
        tuple(
            LeftDense(name, tuple(parameter.shape), "not pruned", parameter.requires_grad)
            for name, parameter in module.named_parameters()
            if name not in chosen
        ),
    )


def prunable_tensors(
    module: nn.Module,
    input_shape: Sequence[int],
    classes: int,
    prunable: Sequence[str] | None = None,
    output_layer: str | None = None,
) -> tuple[PrunableTensor, ...]:
    """The prunable weight tensors of `module`, in the order in which the network runs them.

    Weights of dense and convolutional layers; biases and norms are never pruned. The output layer is the last such
    layer to run. `prunable` and `output_layer` (parameter names) override what is found. Raises InvalidExperiment if
    the network does not accept inputs of `input_shape`, or does not answer with [batch, classes] logits.
    """
    order: list[tuple[Any, int]] = []

    def note(layer: Any, arguments: tuple[Any, ...], named: dict[str, Any], output: object) -> None:
        order.append((layer, _applications(layer, next(iter([*arguments, *named.values()]), None), output)))

    hooks = [
        layer.register_forward_hook(note, with_kwargs=True)
        for layer in module.modules()
        if isinstance(layer, (nn.Linear, *_CONVOLUTIONS))
    ]
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            logits = module(torch.zeros(_EXAMPLES, *input_shape))
    except Exception as error:
        raise InvalidExperiment(
            f"the model does not run on inputs of shape {tuple(input_shape)}: "
            f"{in_one_line(error)}; mend the network or model.arguments"
        ) from None
    finally:
        module.train(was_training)
        for hook in hooks:
            hook.remove()
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (_EXAMPLES, classes):
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise InvalidExperiment(
            f"the model answers two examples with {shape}, not with logits of shape (2, {classes}); "
            "end it in one logit per class"
        )

    parameters = dict(module.named_parameters())
    # By identity: a weight shared by two layers is one parameter, under one name, whichever of them runs.
    names = {id(parameter): name for name, parameter in parameters.items()}
    kinds: dict[str, Literal["dense", "conv"]] = {}
    applications: dict[str, int] = {}
    last = None
    for layer, count in order:
        name = names.get(id(layer.weight))
        if name is not None:
            kinds.setdefault(name, "dense" if isinstance(layer, nn.Linear) else "conv")
            applications[name] = applications.get(name, 0) + count
            last = name
    output = last if output_layer is None else output_layer
    chosen = (
        list(kinds)
        if prunable is None
        else [*(name for name in kinds if name in prunable), *(name for name in prunable if name not in kinds)]
    )
    for name in [*chosen, *([] if output_layer is None else [output_layer])]:
        if name not in parameters:
            raise InvalidExperiment(f"the model has no parameter {name!r}; it has {', '.join(parameters)}")
        if parameters[name].ndim < 2:
            raise InvalidExperiment(
                f"parameter {name!r} has shape {tuple(parameters[name].shape)}; "
                "only weight matrices and filters are pruned, never biases or norms"
            )
    if not chosen:
        raise InvalidExperiment("the model has no dense or convolutional layer to prune; name some in model.prunable")
    return tuple(
        PrunableTensor(
            name,
            tuple(parameters[name].shape),
            kinds.get(name, "dense" if parameters[name].ndim == 2 else "conv"),
            name == output,
            max(applications.get(name, 0) // _EXAMPLES, 1),
        )
        for name in dict.fromkeys(chosen)
    )


def _applications(layer: nn.Linear | nn.modules.conv._ConvNd, given: object, output: object) -> int:
    """How often each weight of a layer was applied in one run, over all examples."""
    if isinstance(layer, nn.Linear):
        met, channels = output, layer.out_features
    elif layer.transposed:  # its weights are applied to every position of its input, not of its output
        met, channels = given, layer.in_channels
    else:
        met, channels = output, layer.out_channels
    return met.numel() // channels if isinstance(met, torch.Tensor) else _EXAMPLES
