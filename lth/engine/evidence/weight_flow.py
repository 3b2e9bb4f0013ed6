"""Synaptic flow (Tanaka et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from lth.engine.evidence.cohort import OneSeed, Tensors
from lth.engine.evidence.differentiation import gradients_of, requiring_grad
from lth.engine.evidence.registry import register_evidence
from lth.models.calling import call


def flow(
    module: nn.Module, parameters: Tensors, buffers: Tensors, input_shape: Sequence[int], names: Sequence[str]
) -> dict[str, torch.Tensor]:
    """dR/d|w| of `names` in float64: R = sum of the outputs for ones as input and |w| as weights, evaluation mode.

    In float64 because R grows with the product of the widths (Tanaka et al. 2020). Running means count as 0: a shift
    is no flow. At initialisation they are 0 anyway, as published. Frozen weights count as |w|, too.
    """
    module.eval()
    absolute = {name: tensor.detach().abs().double() for name, tensor in parameters.items()}
    wanted = requiring_grad(absolute, names)
    frozen = {name for name, _ in module.named_parameters()}
    still = {
        name: buffer.abs().double()
        if name in frozen and buffer.is_floating_point()
        else torch.zeros_like(buffer).double()
        if name.endswith("running_mean")
        else buffer.double()
        if buffer.is_floating_point()
        else buffer
        for name, buffer in buffers.items()
    }
    ones = torch.ones(1, *input_shape, dtype=torch.float64, device=next(iter(absolute.values())).device)
    return gradients_of(call(module, {**still, **absolute, **wanted}, ones).sum(), wanted)


@register_evidence("flow", "dR/d|w|, R the sum of the outputs for an input of ones and |w| as weights")
def flow_of_ones(one: OneSeed) -> dict[str, torch.Tensor]:
    """dR/d|w| in float64, for ones of the data's shape."""
    return flow(one.module, one.parameters, one.buffers, one.cohort.input_shape, one.names)
