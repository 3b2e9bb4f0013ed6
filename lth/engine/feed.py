"""Batches for a cohort: the data set resident as one tensor, batches gathered by index, no per-example Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lth.data.augment import AugmentationDraw, augment, draw_augmentation
from lth.data.images import ImageData
from lth.data.splits import channel_statistics, split
from lth.engine.layout import padded
from lth.streams import stream


@dataclass(frozen=True)
class Feed:
    """The data of a cohort on its device.

    `inputs` uint8 [examples, C, H, W] and `labels` int64 [examples] are shared by all seeds; the splits are per seed:
    `train` [seeds, n] and `validation` [seeds, m] index into them. Pixels become (x - mean) * scale with `mean` and
    `scale` [seeds, 1, C, 1, 1] measured on each seed's training split.
    """

    seeds: tuple[int, ...]
    inputs: torch.Tensor
    labels: torch.Tensor
    test_inputs: torch.Tensor
    test_labels: torch.Tensor
    train: torch.Tensor
    validation: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor

    @property
    def device(self) -> torch.device:
        return self.inputs.device


def make_feed(
    data: ImageData, seeds: Sequence[int], validation: int, standardise: str, device: torch.device | str = "cpu"
) -> Feed:
    """Put a data set on the device and draw every seed's split; statistics come from its training split only."""
    total = len(data.train_labels)
    splits = [split(total, validation, seed) for seed in seeds]
    channels = data.input_shape[0]
    inputs = data.train_inputs.to(device)
    if standardise == "channel":  # on the device, exact on any
        statistics = [channel_statistics(inputs, train.to(device)) for train, _ in splits]
        mean = torch.stack([mean for mean, _ in statistics])
        scale = 1.0 / torch.stack([deviation for _, deviation in statistics])
    else:
        mean = torch.zeros(len(seeds), channels)
        scale = torch.full((len(seeds), channels), 1.0 / 255.0)
    return Feed(
        seeds=tuple(seeds),
        inputs=inputs,
        labels=data.train_labels.to(device),
        test_inputs=data.test_inputs.to(device),
        test_labels=data.test_labels.to(device),
        train=torch.stack([train for train, _ in splits]).to(device),
        validation=torch.stack([held for _, held in splits]).to(device),
        mean=mean.view(-1, 1, channels, 1, 1).to(device),
        scale=scale.view(-1, 1, channels, 1, 1).to(device),
    )


def standardised(feed: Feed, pixels: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Raw pixels [seeds, batch, C, H, W] as standardised floats."""
    images = pixels.to(torch.float32) if out is None else out.copy_(pixels)
    return images.sub_(feed.mean).mul_(feed.scale)


def aligned_empty(count: int, *shape: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """An uninitialised tensor [count, *shape] whose entries all begin on the layout's alignment.

    Matrix products may order their sums by the alignment of their operands; this makes a seed's the same wherever it
    stands in the cohort.
    """
    size = 1
    for extent in shape:
        size *= extent
    return torch.empty(count, padded(size), device=device)[:, :size].view(count, *shape)


class Batches:
    """The training batches of a cohort, in each seed's own order, from any step on.

    Epoch e of a seed is a permutation of its training split drawn from the stream ("order", e); the last incomplete
    batch of an epoch is left out. Augmentation comes from ("augmentation", e), one draw per example of the epoch.
    Nothing here depends on the steps before, so a restart needs only the step's number. A `copy` above 0 has streams
    of its own: the same seed in another order (linear mode connectivity).
    """

    def __init__(self, feed: Feed, batch_size: int, crop_padding: int = 0, flip: bool = False, copy: int = 0) -> None:
        self.feed = feed
        self.batch_size = batch_size
        self.crop_padding = crop_padding
        self.flip = flip
        self.stream = f"/copy {copy}" if copy else ""
        self.per_epoch = feed.train.shape[1] // batch_size
        self._epoch = -1
        self._order = self._labels = torch.empty(0)
        self._draws: AugmentationDraw | None = None
        shape = tuple(feed.inputs.shape[1:])
        self._images = aligned_empty(len(feed.seeds), batch_size, *shape, device=feed.device)
        self._pixels = torch.empty(len(feed.seeds) * batch_size, *shape, dtype=torch.uint8, device=feed.device)

    def _begin(self, epoch: int) -> None:
        feed, used = self.feed, self.per_epoch * self.batch_size
        orders, draws = [], []
        for seed in feed.seeds:
            generator = stream(seed, "order" + self.stream, epoch)
            orders.append(torch.randperm(feed.train.shape[1], generator=generator)[:used])
            if self.crop_padding or self.flip:
                draws.append(
                    draw_augmentation(
                        used, self.crop_padding, self.flip, stream(seed, "augmentation" + self.stream, epoch)
                    )
                )
        order = _to_device(torch.stack(orders), feed.device)
        # [batches, seeds * batch size]: each step's indices lie together
        chosen = feed.train.gather(1, order).view(len(feed.seeds), self.per_epoch, self.batch_size)
        self._order = chosen.transpose(0, 1).reshape(self.per_epoch, -1)
        self._labels = feed.labels[self._order].view(self.per_epoch, len(feed.seeds), self.batch_size)
        if draws:
            offsets = torch.stack([draw.offsets for draw in draws]).view(len(draws), self.per_epoch, -1, 2)
            flips = torch.stack([draw.flips for draw in draws]).view(len(draws), self.per_epoch, -1)
            self._draws = AugmentationDraw(
                _to_device(offsets.transpose(0, 1).reshape(self.per_epoch, -1, 2), feed.device),
                _to_device(flips.transpose(0, 1).reshape(self.per_epoch, -1), feed.device),
            )
        self._epoch = epoch

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [seeds, batch, C, H, W] and labels [seeds, batch] of a step; valid until the next call."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._begin(epoch)
        pixels = torch.index_select(self.feed.inputs, 0, self._order[position], out=self._pixels)
        if self._draws is not None:
            draw = AugmentationDraw(self._draws.offsets[position], self._draws.flips[position])
            pixels = augment(pixels, draw, self.crop_padding)
        images = standardised(self.feed, pixels.view(self._images.shape), out=self._images)
        return images, self._labels[position]


def _to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy from the host without making it wait (pinned memory) where the device is a GPU."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
