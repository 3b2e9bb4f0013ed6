"""Removing units physically: a smaller network of ordinary layers, faster on any machine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from lth.models.calling import copied
from lth.structured.masks import cut
from lth.structured.units import UnitGroup


def shrink(module: nn.Module, groups: Sequence[UnitGroup], alive: Sequence[torch.Tensor]) -> nn.Module:
    """A copy of `module` that has only the units in `alive` (bool [units] per group, one seed's).

    It computes what `module` computes under `unit_masks`, in training too. Keep at least one unit of every group.
    """
    small = copied(module)
    tensors = {**dict(small.named_parameters()), **dict(small.named_buffers())}
    smaller = cut(
        groups, [units[None] for units in alive], {name: tensor.detach()[None] for name, tensor in tensors.items()}
    )
    for name, tensor in tensors.items():
        values = smaller[name][0]
        if values.shape != tensor.shape:
            owner, _, attribute = name.rpartition(".")
            layer = small.get_submodule(owner)
            setattr(
                layer,
                attribute,
                nn.Parameter(values, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else values,
            )
            _tell_sizes(layer, getattr(layer, attribute))
    return small


def _tell_sizes(layer: nn.Module, tensor: torch.Tensor) -> None:
    """Layers also know their sizes as numbers, which printing, exporting and some of their own checks read."""
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, _ConvNd):
        first, second = layer.weight.shape[:2]
        if layer.groups > 1:  # depthwise: the only grouped convolution whose channels are units
            layer.groups = layer.in_channels = layer.out_channels = first
        else:
            layer.in_channels, layer.out_channels = (first, second) if layer.transposed else (second, first)
    elif isinstance(layer, _BatchNorm):
        layer.num_features = len(tensor)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = len(tensor)
