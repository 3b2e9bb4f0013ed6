"""Fully connected networks, LeNet-300-100 among them (LeCun et al. 1998)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from lth.errors import InvalidExperiment
from lth.models.registry import register_model


@register_model("mlp", "dense layers with ReLU; hidden: [300, 100] is LeNet-300-100")
def mlp(input_shape: tuple[int, ...], classes: int, hidden: Sequence[int] = (300, 100)) -> nn.Sequential:
    """Flatten, then dense layers of `hidden` widths with ReLU between them, then `classes` logits."""
    if not isinstance(hidden, list | tuple) or not all(type(width) is int and width > 0 for width in hidden):
        raise InvalidExperiment(f"model.arguments.hidden is {hidden!r}; give widths above 0, e.g. [300, 100]")
    widths = [math.prod(input_shape), *hidden, classes]
    layers: list[nn.Module] = [nn.Flatten()]
    for position, (fan_in, fan_out) in enumerate(pairwise(widths)):
        if position:
            layers.append(nn.ReLU())
        layers.append(nn.Linear(fan_in, fan_out))
    return nn.Sequential(*layers)
