"""Random crops and flips of whole batches, as torchvision defines them: on raw pixels, crop first, then flip."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor

from lth.errors import DataError


class AugmentationDraw(NamedTuple):
    """What was drawn for each example, apart from the images: drawn on the CPU from a named stream, used anywhere."""

    offsets: Tensor
    """Top and left corner of the crop in the padded image, int64 [n, 2], each 0..2*padding (padding: no shift)."""
    flips: Tensor
    """Whether to mirror left and right, bool [n]."""

    def to(self, device: torch.device | str) -> AugmentationDraw:
        """The same draw on another device; towards a GPU without waiting for the work queued there."""
        no_wait = torch.device(device).type != "cpu"  # a copy to the CPU must have arrived before anybody reads it
        return AugmentationDraw(*(part.to(device, non_blocking=no_wait) for part in self))


def draw_augmentation(n: int, crop_padding: int, flip: bool, generator: torch.Generator) -> AugmentationDraw:
    """Draw a crop, uniform over the (2*crop_padding + 1)**2 positions, and a fair flip for each of `n` examples.

    Offsets are drawn first, so that switching flips on leaves the crops of a draw unchanged. Without padding all
    offsets are 0; without `flip` nothing is flipped. The tensors are on the generator's device.

    Raises:
        DataError: `crop_padding` is negative.
    """
    if crop_padding < 0:
        raise DataError(f"crop padding of {crop_padding} pixels is impossible: give 0 or more")
    device = generator.device
    offsets = torch.randint(0, 2 * crop_padding + 1, (n, 2), generator=generator, device=device)
    if not flip:
        return AugmentationDraw(offsets, torch.zeros(n, dtype=torch.bool, device=device))
    return AugmentationDraw(offsets, torch.randint(0, 2, (n,), generator=generator, device=device).bool())


def augment(images: Tensor, draw: AugmentationDraw, crop_padding: int) -> Tensor:
    """Shift each image by its draw, filling with zeros, then mirror those that are flipped.

    One gather for crop and flip together: about 4 microseconds an image of 3x32x32 on one CPU core, and no wait for
    the device on a GPU.

    Args:
        images: uint8 [n, C, H, W] (any dtype works).
        draw: of the same `n`, made with the same `crop_padding`, on the same device.
        crop_padding: pixels of zeros on each side.

    Returns:
        A new tensor of the shape and dtype of `images`.
    """
    n, channels, height, width = images.shape
    padded = functional.pad(images, (crop_padding,) * 4)
    padded_width = width + 2 * crop_padding

    rows = draw.offsets[:, 0, None] + torch.arange(height, device=images.device)  # [n, H]
    columns = torch.arange(width, device=images.device)
    columns = draw.offsets[:, 1, None] + torch.where(draw.flips[:, None], columns.flip(0), columns)  # [n, W]
    pixels = (rows[:, :, None] * padded_width + columns[:, None, :]).reshape(n, 1, height * width)
    gathered = padded.flatten(2).gather(2, pixels.expand(n, channels, height * width))
    return gathered.reshape(n, channels, height, width)
