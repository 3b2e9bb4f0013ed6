"""Which training images validate, and the exact mean and deviation of those that train."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lth.errors import DataError
from lth.streams import stream

_PIXELS_AT_ONCE = 2**18
"""Pixels widened to float64 at a time: 2 MiB, small enough to stay in a core's cache."""


def split(n_train: int, validation: int, seed: int) -> tuple[Tensor, Tensor]:
    """Set `validation` of `n_train` training images aside, chosen uniformly by the stream (seed, "split").

    Returns:
        Indices of the images that train [n_train - validation] and of those that validate [validation], int64, each
        in ascending order (neighbouring reads, and an order that does not depend on how the draw was made).

    Raises:
        DataError: unless 0 < validation < n_train.
    """
    if not 0 < validation < n_train:
        raise DataError(f"a validation split of {validation} is impossible: choose 1..{n_train - 1} of {n_train}")
    permutation = torch.randperm(n_train, generator=stream(seed, "split"))
    return permutation[validation:].sort().values, permutation[:validation].sort().values


def channel_statistics(inputs: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation of every channel, in raw pixel units (0..255).

    Exact: the sums of pixels and of their squares are integers below 2**53 (up to 10**11 pixels), so float64 adds them
    without rounding in any order; the rest is integer arithmetic up to the last square root and quotient. The result
    is the same to the bit on any machine, device and number of threads.

    Args:
        inputs: uint8 [N, C, H, W], any device.
        indices: int64 [n], the images to measure.

    Returns:
        mean [C] and std [C], float32 on the device of `inputs`. A constant channel gets std 1, so that dividing by it
        is harmless.

    Raises:
        DataError: `indices` is empty.
    """
    if len(indices) == 0:
        raise DataError("channel statistics of no images are undefined: give at least one index")
    channels, pixels_per_image = inputs.shape[1], inputs.shape[2] * inputs.shape[3]
    totals = torch.zeros(channels, dtype=torch.float64, device=inputs.device)
    squares = torch.zeros_like(totals)
    for some in indices.to(inputs.device).split(max(1, _PIXELS_AT_ONCE // pixels_per_image)):
        images = inputs[some]
        for channel in range(channels):
            pixels = images[:, channel].reshape(-1).double()
            totals[channel] += pixels.sum()
            squares[channel] += torch.dot(pixels, pixels)

    count = len(indices) * pixels_per_image
    means, deviations = [], []
    for total, square in zip(map(int, totals.tolist()), map(int, squares.tolist()), strict=True):
        # count**2 times the variance, an exact Python integer: no cancellation, however small the variance is.
        scaled_variance = count * square - total * total
        means.append(total / count)
        deviations.append(math.sqrt(scaled_variance) / count if scaled_variance else 1.0)
    return (
        torch.tensor(means, dtype=torch.float32, device=inputs.device),
        torch.tensor(deviations, dtype=torch.float32, device=inputs.device),
    )
