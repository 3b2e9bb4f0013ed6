"""Pixels to inputs: random crops and flips, then the standardisation that is measured on the training split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from lth.data.augment import AugmentationDraw, augment, draw_augmentation
from lth.data.examples import Tensors
from lth.data.splits import channel_statistics

PIXELS = "pixels"


@dataclass(frozen=True)
class ImageTransform:
    """Crops after padding by `crop_padding` zeros, fair flips, and (pixel - mean) * scale for each channel.

    `standardise`: `channel` measures mean and deviation of each channel; `none` scales 0-255 to 0-1.
    """

    channels: int
    standardise: str = "channel"
    crop_padding: int = 0
    flip: bool = False

    def fit(self, raw: Tensors, indices: torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean and scale [channels], exact on any device."""
        pixels = raw[PIXELS]
        if self.standardise == "channel":
            mean, deviation = channel_statistics(pixels, indices)
            return {"mean": mean, "scale": 1.0 / deviation}
        return {
            "mean": torch.zeros(self.channels, device=pixels.device),
            "scale": torch.full((self.channels,), 1.0 / 255.0, device=pixels.device),
        }

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        if not self.crop_padding and not self.flip:
            return ()
        return tuple(draw_augmentation(count, self.crop_padding, self.flip, generator))

    def inputs(self, raw: Tensors, fitted: Tensors, draws: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
        pixels = raw[PIXELS]
        if draws:
            pixels = augment(pixels, AugmentationDraw(*draws), self.crop_padding)
        shape = (-1, 1, self.channels, 1, 1)
        return out.copy_(pixels.view(out.shape)).sub_(fitted["mean"].view(shape)).mul_(fitted["scale"].view(shape))

    def targets(self, target: torch.Tensor, fitted: Tensors) -> torch.Tensor:
        return target

    def module(self, fitted: Tensors) -> tuple[nn.Module, nn.Module]:
        return Standardise(fitted["mean"], fitted["scale"]), nn.Identity()


class Standardise(nn.Module):
    """Raw pixels [batch, channels, height, width] from 0 to 255 as (pixel - mean) * scale."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.detach().clone().view(1, -1, 1, 1))
        self.register_buffer("scale", scale.detach().clone().view(1, -1, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels - self.mean) * self.scale
