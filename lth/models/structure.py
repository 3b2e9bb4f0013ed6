"""What can be pruned: found from the module itself by running it once, never from names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from lth.errors import InvalidExperiment

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class PrunableTensor:
    """One weight tensor that may be pruned: its parameter name, shape, kind of layer, and whether it is the output."""

    name: str
    shape: tuple[int, ...]
    kind: Literal["dense", "conv"]
    output: bool

    @property
    def size(self) -> int:
        return math.prod(self.shape)


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
    the network does not accept images of `input_shape`, or does not answer with [batch, classes] logits.
    """
    order: list[tuple[str, nn.Module]] = []
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, (nn.Linear, *_CONVOLUTIONS))}
    hooks = [
        layer.register_forward_hook(lambda layer, _inputs, _output, name=name: order.append((name, layer)))
        for name, layer in layers.items()
    ]
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            logits = module(torch.zeros(2, *input_shape))
    except Exception as error:
        raise InvalidExperiment(
            f"the model does not run on images of shape {tuple(input_shape)}: {str(error).splitlines()[0]}") from None
    finally:
        module.train(was_training)
        for hook in hooks:
            hook.remove()
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (2, classes):
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise InvalidExperiment(f"the model answers two images with {shape}, not with logits of shape (2, {classes})")

    parameters = dict(module.named_parameters())
    kinds: dict[str, Literal["dense", "conv"]] = {}
    for name, layer in order:
        weight = f"{name}.weight" if name else "weight"
        if weight in parameters:  # a weight shared by two layers is listed once, under its first name
            kinds.setdefault(weight, "dense" if isinstance(layer, nn.Linear) else "conv")
    output = output_layer if output_layer is not None else next(reversed(kinds), None)
    chosen = list(kinds) if prunable is None else list(prunable)
    for name in [*chosen, *([output_layer] if output_layer else [])]:
        if name not in parameters:
            raise InvalidExperiment(f"the model has no parameter {name!r}; it has {', '.join(parameters)}")
        if parameters[name].ndim < 2:
            raise InvalidExperiment(f"parameter {name!r} has shape {tuple(parameters[name].shape)}; "
                                    "only weight matrices and filters are pruned, never biases or norms")
    if not chosen:
        raise InvalidExperiment("the model has no dense or convolutional layer to prune; name some in model.prunable")
    return tuple(
        PrunableTensor(name, tuple(parameters[name].shape),
                       kinds.get(name, "dense" if parameters[name].ndim == 2 else "conv"), name == output)
        for name in dict.fromkeys(chosen)
    )
