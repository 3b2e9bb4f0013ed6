"""What a network costs: parameters, arithmetic, and time on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Size:
    """`flops`: operations per example in a forward pass; `latency_seconds`: the median time of a batch."""

    parameters: int
    flops: int
    latency_seconds: float


def measure(module: nn.Module, input_shape: Sequence[int], *, batch: int = 128, repeats: int = 20) -> Size:
    """The cost of `module` where it lies, in evaluation mode.

    `flops` counts two (a multiplication and an addition) per weight use in dense and convolutional layers and other
    matrix products; biases, norms and activations are not counted. The latency is the median of `repeats` forward
    passes of `batch` random images on the device of the weights with torch's current number of threads, after three
    passes to warm up. It holds for this machine while nothing else runs on it.
    """
    device = next(module.parameters()).device
    images = torch.rand(batch, *input_shape, device=device)
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            with FlopCounterMode(display=False) as counter:
                module(images[:1])
            seconds = [_seconds(module, images) for _ in range(3 + repeats)][3:]
    finally:
        module.train(was_training)
    return Size(sum(parameter.numel() for parameter in module.parameters()), counter.get_total_flops(), median(seconds))


def _seconds(module: nn.Module, images: torch.Tensor) -> float:
    _wait(images.device)
    start = perf_counter()
    module(images)
    _wait(images.device)
    return perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
