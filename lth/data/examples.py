"""Examples as the engine sees them: named tensors with a schema, and the transform that makes inputs of them.

A data set (`ImageData`, `TableData`) is a maker of these: it knows where its examples come from, they know nothing of
files. What a transform measures is measured on each seed's own training split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import nn

from lth.data.arrays import Arrays, Description
from lth.objectives.registry import Target

Tensors = Mapping[str, torch.Tensor]
TARGET = "target"
"""The name of the tensor that holds what is to be learnt."""


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, and its categories where it is not a number."""

    name: str
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Schema:
    """What the examples of a data set look like.

    `input_shape` is that of what a network takes, without the batch: (channels, height, width) of images, (features,)
    of tables, whose raw `columns` are as named.
    """

    kind: Literal["images", "table"]
    input_shape: tuple[int, ...]
    target: Target
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True, eq=False)
class Examples:
    """The raw examples of a training and a test split: tensors by name, their first axis the examples.

    TARGET is among them: int64 classes or float numbers, [examples].
    """

    name: str
    schema: Schema
    train: Tensors
    test: Tensors


class Transform(Protocol):
    """What happens to raw examples before a network sees them. Settings and code in one frozen dataclass."""

    def fit(self, raw: Tensors, indices: torch.Tensor) -> dict[str, torch.Tensor]:
        """What it measures on the training split of one seed, `indices` int64 [n] of the raw training tensors: small
        tensors by name, on their device. They must come out the same on every machine, to the bit."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """What is drawn at random for `count` examples, one tensor [count, ...] for each kind of draw; none of them
        where nothing is augmented. On the CPU, from the generator only."""

    def inputs(self, raw: Tensors, fitted: Tensors, draws: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
        """What networks take, written into `out` float32 [seeds, batch, *input_shape].

        `raw` are tensors [seeds * batch, ...], seed after seed; `fitted` those of `fit`, [seeds, ...]; `draws` those of
        these examples, empty in evaluation.
        """

    def targets(self, target: torch.Tensor, fitted: Tensors) -> torch.Tensor:
        """What the objective takes, [seeds, batch], from raw targets [seeds, batch]."""

    def module(self, fitted: Tensors) -> tuple[nn.Module, nn.Module]:
        """The same for one seed outside the engine, where `fitted` has no axis of seeds: raw inputs, float32
        [batch, ...], to what its network takes; and what the network answers to what is given out."""


class DataSet(Protocol):
    """A data set: examples in memory, what they are called, and what tells them from others."""

    @property
    def name(self) -> str:
        """The name it was loaded under."""

    def examples(self) -> Examples:
        """Its examples."""

    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) of the content."""

    def check(self) -> None:
        """Raises DataError, one line, of a data set that could not be trained on."""

    def caveats(self) -> tuple[str, ...]:
        """What a reader of its results must know, one sentence each: what is legal, and hardly meant."""

    def to_arrays(self) -> tuple[Description, Arrays]:
        """Plain data and arrays over the same memory; `lth.data.restore` is the reverse."""

    def transform(self, standardise: str = "channel", crop_padding: int = 0, flip: bool = False) -> Transform:
        """The transform that an experiment asks for. Raises InvalidExperiment for one that these data cannot have."""
