"""Training and evaluation mode of a module's layers, each by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[nn.Module]:
    """Within it the module is in evaluation mode; after it every layer is in the mode that it was in."""
    modes = {layer: layer.training for layer in module.modules()}
    try:
        yield module.eval()
    finally:
        for layer, training in modes.items():
            layer.training = training
