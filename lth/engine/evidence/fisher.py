"""The diagonal of the empirical Fisher information."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.func import grad, vmap
from torch.nn import functional

from lth.engine.evidence.cohort import Loss, OneSeed, Tensors
from lth.engine.evidence.registry import register_evidence
from lth.models.calling import call

AT_A_TIME = 32


def fisher_diagonal(
    module: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    names: Sequence[str],
    stackable: bool = True,
    loss: Loss = functional.cross_entropy,
) -> dict[str, torch.Tensor]:
    """Mean over examples of (dL_i/dw)^2 of `names`, in evaluation mode: one example has no batch statistics.

    Gradients of AT_A_TIME examples are held together; of one where `vmap` cannot run the module (not `stackable`).
    """
    module.eval()
    wanted = {name: parameters[name].detach() for name in names}

    def loss_of_one(some: dict[str, torch.Tensor], image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        outputs = call(module, {**buffers, **parameters, **some}, image.unsqueeze(0))
        return loss(outputs, label.unsqueeze(0))

    total = {name: torch.zeros_like(tensor) for name, tensor in wanted.items()}
    if stackable:
        each = vmap(grad(loss_of_one), in_dims=(None, 0, 0))
        for pictures, classes in zip(inputs.split(AT_A_TIME), targets.split(AT_A_TIME), strict=True):
            for name, found in each(wanted, pictures, classes).items():
                total[name] += found.square_().sum(0)
    else:
        for image, label in zip(inputs, targets, strict=True):
            for name, found in grad(loss_of_one)(wanted, image, label).items():
                total[name] += found.square()
    return {name: squares / len(targets) for name, squares in total.items()}


@register_evidence("fisher_diagonal", "the square of each example's gradient, averaged over the sample", data=True)
def fisher_diagonal_of_sample(one: OneSeed) -> dict[str, torch.Tensor]:
    """The square of each example's gradient, averaged over the sample."""
    network = (one.module, one.parameters, one.buffers)
    return fisher_diagonal(*network, *one.examples(), one.names, one.cohort.network.stackable, one.loss)
