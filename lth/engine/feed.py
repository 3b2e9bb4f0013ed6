"""Batches for a cohort: the data set resident in memory, batches gathered by index, no per-example Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from lth.data.examples import TARGET, DataSet, Schema, Tensors, Transform
from lth.data.splits import split
from lth.engine.layout import padded
from lth.streams import stream


@dataclass(frozen=True)
class Feed:
    """The data of a cohort on its device.

    `examples` and `test_examples` are the raw tensors [examples, ...] of the data set, shared by all seeds; the splits
    are per seed: `train` [seeds, n] and `validation` [seeds, m] index into `examples`. `fitted` is what the transform
    has measured on each seed's training split, [seeds, ...].
    """

    seeds: tuple[int, ...]
    schema: Schema
    examples: Tensors
    test_examples: Tensors
    train: torch.Tensor
    validation: torch.Tensor
    transform: Transform
    fitted: Tensors

    @property
    def device(self) -> torch.device:
        return self.train.device

    @property
    def targets(self) -> torch.Tensor:
        """Raw targets of the examples that train and validate, [examples]."""
        return self.examples[TARGET]

    def of_seed(self, row: int) -> Feed:
        """The feed of the one seed in that row of the cohort."""
        return replace(
            self,
            seeds=self.seeds[row : row + 1],
            train=self.train[row : row + 1],
            validation=self.validation[row : row + 1],
            fitted={name: tensor[row : row + 1] for name, tensor in self.fitted.items()},
        )

    def batch(
        self,
        chosen: torch.Tensor,
        test: bool = False,
        draws: tuple[torch.Tensor, ...] = (),
        out: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs [seeds, batch, *input_shape] and targets [seeds, batch] of the examples `chosen` [seeds, batch]."""
        raw, flat = self.test_examples if test else self.examples, chosen.reshape(-1)
        some = {name: tensor.index_select(0, flat) for name, tensor in raw.items() if name != TARGET}
        if out is None:
            out = aligned_empty(*chosen.shape, *self.schema.input_shape, device=self.device)
        targets = raw[TARGET].index_select(0, flat).view(chosen.shape)
        return self.transform.inputs(some, self.fitted, draws, out), self.transform.targets(targets, self.fitted)


def make_feed(
    data: DataSet, seeds: Sequence[int], validation: int, transform: Transform, device: torch.device | str = "cpu"
) -> Feed:
    """Put a data set on the device and draw every seed's split; what is measured is of its training split only."""
    examples = data.examples()
    train, test = (
        {name: tensor.to(device) for name, tensor in part.items()} for part in (examples.train, examples.test)
    )
    splits = [split(len(train[TARGET]), validation, seed) for seed in seeds]
    fitted = [transform.fit(train, indices.to(device)) for indices, _ in splits]  # on the device, exact on any
    return Feed(
        seeds=tuple(seeds),
        schema=examples.schema,
        examples=train,
        test_examples=test,
        train=torch.stack([indices for indices, _ in splits]).to(device),
        validation=torch.stack([held for _, held in splits]).to(device),
        transform=transform,
        fitted={name: torch.stack([each[name] for each in fitted]) for name in fitted[0]},
    )


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

    def __init__(self, feed: Feed, batch_size: int, copy: int = 0) -> None:
        self.feed = feed
        self.batch_size = batch_size
        self.stream = f"/copy {copy}" if copy else ""
        self.per_epoch = feed.train.shape[1] // batch_size
        self._epoch = -1
        self._order = self._targets = torch.empty(0)
        self._draws: tuple[torch.Tensor, ...] = ()
        seeds = len(feed.seeds)
        self._inputs = aligned_empty(seeds, batch_size, *feed.schema.input_shape, device=feed.device)
        self._raw = {
            name: torch.empty(seeds * batch_size, *tensor.shape[1:], dtype=tensor.dtype, device=feed.device)
            for name, tensor in feed.examples.items()
            if name != TARGET
        }

    def _begin(self, epoch: int) -> None:
        feed, used = self.feed, self.per_epoch * self.batch_size
        orders, draws = [], []
        for seed in feed.seeds:
            generator = stream(seed, "order" + self.stream, epoch)
            orders.append(torch.randperm(feed.train.shape[1], generator=generator)[:used])
            draws.append(feed.transform.draw(used, stream(seed, "augmentation" + self.stream, epoch)))
        order = _to_device(torch.stack(orders), feed.device)
        # [batches, seeds * batch size]: each step's indices lie together
        chosen = feed.train.gather(1, order).view(len(feed.seeds), self.per_epoch, self.batch_size)
        self._order = chosen.transpose(0, 1).reshape(self.per_epoch, -1)
        self._targets = feed.targets[self._order].view(self.per_epoch, len(feed.seeds), self.batch_size)
        self._draws = tuple(
            _by_batch(torch.stack(kind), self.per_epoch, feed.device) for kind in zip(*draws, strict=True)
        )
        self._epoch = epoch

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs [seeds, batch, *input_shape] and targets [seeds, batch] of a step; valid until the next call."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._begin(epoch)
        feed = self.feed
        raw = {
            name: torch.index_select(feed.examples[name], 0, self._order[position], out=space)
            for name, space in self._raw.items()
        }
        draws = tuple(kind[position] for kind in self._draws)
        inputs = feed.transform.inputs(raw, feed.fitted, draws, self._inputs)
        return inputs, feed.transform.targets(self._targets[position], feed.fitted)


def _by_batch(draws: torch.Tensor, per_epoch: int, device: torch.device) -> torch.Tensor:
    """Draws [seeds, examples of the epoch, ...] as [batches, seeds * batch size, ...]."""
    seeds, _, *shape = draws.shape
    batched = draws.view(seeds, per_epoch, -1, *shape).transpose(0, 1)
    return _to_device(batched.reshape(per_epoch, -1, *shape), device)


def _to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy from the host without making it wait (pinned memory) where the device is a GPU."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
