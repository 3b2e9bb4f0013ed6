"""What evidence is computed from: a cohort whose weights are scored, and one seed of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from lth.engine.feed import Feed
from lth.engine.network import Network
from lth.streams import own_randomness, stream

Tensors = Mapping[str, torch.Tensor]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(outputs [batch, outputs], targets [batch]) -> mean loss of the batch, as an objective has it."""


@dataclass(frozen=True)
class Sample:
    """Which examples of its training split a seed is scored on.

    `examples` drawn without replacement, or `per_class` of every class; in batches of `batch_size`. `temperature`
    divides the outputs where a criterion asks for that. `mode`: gradients are those of the network in training mode
    (batch norm with the statistics of the batch, dropout) or in evaluation mode (with its running statistics, without
    dropout). `halves`: the sample is sorted by target and cut in two, and gradients of both halves are added.
    """

    examples: int | None = 128
    per_class: int | None = None
    temperature: float = 1.0
    batch_size: int = 128
    mode: Literal["train", "eval"] = "train"
    halves: bool = False


@dataclass(frozen=True)
class ScoredCohort:
    """A cohort's networks and what they are scored on.

    `weights` (pruned ones zero), `mask`, `initial` and what is `watched`, by watcher, are rows [seeds, width].
    """

    network: Network
    seeds: Sequence[int]
    weights: torch.Tensor
    buffers: Tensors
    mask: torch.Tensor
    initial: torch.Tensor | None
    watched: Mapping[str, torch.Tensor]
    feed: Feed | None
    sample: Sample
    input_shape: Sequence[int]
    level: int
    round_: int
    loss: Loss = functional.cross_entropy

    def gathered(self, watcher: str) -> torch.Tensor:
        """Rows that a watcher of the training gathered. Raises ValueError if it was not there."""
        if watcher not in self.watched:
            raise ValueError(f"the evidence {watcher!r} was not given")
        return self.watched[watcher]

    def one_by_one(self) -> Iterator[OneSeed]:
        """The seeds, each by itself."""
        names = [tensor.name for tensor in self.network.prunable]
        views, kept = self.network.layout.views(self.weights), self.network.layout.views(self.mask)
        for row, seed in enumerate(self.seeds):
            yield OneSeed(
                self,
                seed,
                row,
                names,
                {name: view[row] for name, view in views.items()},
                {name: buffer[row] for name, buffer in self.buffers.items()},
                {name: kept[name][row] for name in names},
            )


@dataclass(frozen=True)
class OneSeed:
    """One seed's network and what it is scored on.

    `names` are the prunable tensors; `parameters` are all of the network's (pruned weights zero), `masks` those of the
    prunable ones.
    """

    cohort: ScoredCohort
    seed: int
    row: int
    names: Sequence[str]
    parameters: Tensors
    buffers: Tensors
    masks: Tensors

    @property
    def module(self) -> nn.Module:
        """The skeleton that `lth.models.calling.call` runs with the seed's parameters and buffers."""
        return self.cohort.network.module

    @property
    def sample(self) -> Sample:
        return self.cohort.sample

    @property
    def loss(self) -> Loss:
        """The objective's mean loss of a batch."""
        return self.cohort.loss

    def stream(self, purpose: str) -> torch.Generator:
        """Random numbers of the seed's own for that purpose, others at every level and in every round."""
        return stream(self.seed, purpose, self.cohort.level, self.cohort.round_)

    def examples(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Standardised inputs [n, ...] and targets [n], from the stream ("scoring", round)."""
        feed, sample = self.cohort.feed, self.sample
        if feed is None:
            raise ValueError("a criterion that needs data was given no feed")
        alone = feed.of_seed(self.row)
        train = alone.train[0]
        generator = stream(self.seed, "scoring", self.cohort.round_)
        order = torch.randperm(len(train), generator=generator).to(train.device)
        shuffled = train[order]
        if sample.per_class is None:
            chosen = shuffled[: sample.examples]
        else:
            labels = alone.targets[shuffled]
            first = [
                (labels == label).nonzero().flatten()[: sample.per_class]
                for label in range(self.cohort.network.classes)
            ]
            chosen = shuffled[torch.cat(first).sort().values]
        inputs, targets = alone.batch(chosen.unsqueeze(0))
        return inputs[0], targets[0]

    def halved(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The same examples as one batch; or, by `sample.halves`, sorted by target in two (one more in the second)."""
        inputs, targets = self.examples()
        if not self.sample.halves:
            return [(inputs, targets)]
        order = targets.argsort(stable=True)
        return [(inputs[half], targets[half]) for half in (order[: len(order) // 2], order[len(order) // 2 :])]

    def batches(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The same examples in batches of the sample's size; the last may be smaller."""
        inputs, targets = self.examples()
        size = self.sample.batch_size
        return [(inputs[start : start + size], targets[start : start + size]) for start in range(0, len(targets), size)]

    @contextmanager
    def own_randomness(self) -> Iterator[None]:
        """Within it the global generators belong to the seed and the round, for networks that draw (dropout)."""
        if not self.cohort.network.draws_randomness:
            yield
            return
        device = self.cohort.weights.device
        with own_randomness(self.seed, "scoring/dropout", self.cohort.round_, device=device):
            yield
