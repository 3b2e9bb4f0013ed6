"""Gradients of the loss, and products with its Hessian."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from lth.engine.evidence.cohort import Loss, OneSeed, Tensors
from lth.engine.evidence.differentiation import gradients_of, requiring_grad
from lth.engine.evidence.registry import register_evidence
from lth.models.calling import call

Mode = Literal["train", "eval"]
"""How a network is run: with the statistics of the batch and dropout, or with its running statistics."""


def gradient(
    module: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    names: Sequence[str],
    loss: Loss = functional.cross_entropy,
    mode: Mode = "train",
) -> dict[str, torch.Tensor]:
    """dL/dw of `names`, L the mean `loss` of the batch, in training mode (batch statistics) or in evaluation mode."""
    wanted = requiring_grad(parameters, names)
    value = _loss(module.train(mode == "train"), {**parameters, **wanted}, buffers, inputs, targets, loss)
    return gradients_of(value, wanted)


def hessian_gradient(
    module: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    names: Sequence[str],
    temperature: float = 1.0,
    masks: Tensors | None = None,
    loss: Loss = functional.cross_entropy,
    mode: Mode = "train",
    direction: Tensors | None = None,
) -> dict[str, torch.Tensor]:
    """Hg over `names`, by differentiating sum <stopgrad(g), g> once more (Wang et al. 2020, algorithm 2).

    With `masks`, g is that of the network that is left: a pruned weight has no gradient. With a `direction`, H times
    that instead of g.
    """
    wanted = requiring_grad(parameters, names)
    network = module.train(mode == "train")
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no second derivative
        value = _loss(network, {**parameters, **wanted}, buffers, inputs, targets, loss, temperature)
    first = torch.autograd.grad(value, list(wanted.values()), create_graph=True, allow_unused=True)
    product = torch.zeros((), device=value.device)
    for name, g in zip(wanted, first, strict=True):
        if g is not None:
            along = g.detach() if direction is None else direction[name]
            product = product + ((along if masks is None else along * masks[name]) * g).sum()
    return gradients_of(product, wanted)


@register_evidence(
    "gradient", "dL/dw of the mean loss over a sample of the training split", data=True, batches=True, mode=True
)
def mean_gradient(one: OneSeed) -> dict[str, torch.Tensor]:
    """The mean over examples of dL/dw, whatever the size of the last batch."""
    batches = one.batches()
    count = sum(len(targets) for _, targets in batches)
    return _mean([(_of_batch(one, *batch), len(batch[1]) / count) for batch in batches])


@register_evidence(
    "squared_gradient",
    "the square of each batch's gradient, averaged over the sample's batches",
    data=True,
    batches=True,
    mode=True,
)
def mean_squared_gradient(one: OneSeed) -> dict[str, torch.Tensor]:
    """The square of each batch's gradient, every batch counting the same."""
    batches = one.batches()
    squares = ({name: g.square() for name, g in _of_batch(one, *batch).items()} for batch in batches)
    return _mean([(square, 1 / len(batches)) for square in squares])


@register_evidence(
    "hessian_gradient",
    "Hg, the Hessian times the gradient over the prunable weights, of the loss of outputs / temperature",
    data=True,
    temperature=True,
    mode=True,
    halves=True,
)
def hessian_gradient_of_sample(one: OneSeed) -> dict[str, torch.Tensor]:
    """Hg of the whole sample at once, in the network that is left.

    Of a sample in two halves, as the public code of GraSP's authors has it: g is the sum of both halves' gradients, and
    H that of both halves' losses.
    """
    network, sample = (one.module, one.parameters, one.buffers), one.sample
    parts = one.halved()
    if len(parts) == 1:
        return hessian_gradient(*network, *parts[0], one.names, sample.temperature, one.masks, one.loss, sample.mode)

    def hot(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return one.loss(outputs / sample.temperature, targets)

    direction = _sum([gradient(*network, *part, one.names, hot, sample.mode) for part in parts])
    products = [
        hessian_gradient(*network, *part, one.names, sample.temperature, one.masks, one.loss, sample.mode, direction)
        for part in parts
    ]
    return _sum(products)


def _of_batch(one: OneSeed, inputs: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    return gradient(one.module, one.parameters, one.buffers, inputs, targets, one.names, one.loss, one.sample.mode)


def _loss(
    module: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    loss: Loss,
    temperature: float = 1.0,
) -> torch.Tensor:
    own = {name: buffer.clone() for name, buffer in buffers.items()}  # batch norm writes into them
    outputs = call(module, {**own, **parameters}, inputs)
    return loss(outputs / temperature, targets)


def _sum(parts: Sequence[Tensors]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([tensors[name] for tensors in parts]).sum(0) for name in parts[0]}


def _mean(parts: Sequence[tuple[Tensors, float]]) -> dict[str, torch.Tensor]:
    return {
        name: sum((tensors[name] * share for tensors, share in parts[1:]), parts[0][0][name] * parts[0][1])
        for name in parts[0][0]
    }
