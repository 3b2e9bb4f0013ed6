"""What criteria are given by chance: the examples of a sample, and noise."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from scored_networks import CLASSES, SHAPE, Tensors, network_of, perceptron, trained_rows
from torch import nn

from lth.data import ImageData
from lth.engine import Sample, initialise, make_feed
from lth.engine.evidence import Loss, gather
from lth.engine.evidence import gradients as room


def seen(
    monkeypatch: pytest.MonkeyPatch,
    sample: Sample,
    seeds: tuple[int, ...] = (3, 7),
    round_: int = 0,
    examples: int = 300,
) -> tuple[list[list[int]], ImageData, torch.Tensor]:
    """Which training images each seed is scored on; pixels spell their numbers out."""
    number = torch.arange(examples)
    inputs = torch.stack([number // 256, number % 256], 1).to(torch.uint8).view(-1, 2, 1, 1)
    inputs = inputs.expand(-1, *SHAPE).contiguous()
    labels = (number * 7 % 10).clamp(max=CLASSES - 1)  # classes 0, 1, 2 of a tenth each, 3 of the rest
    data = ImageData("numbered", inputs, labels, inputs[:10], labels[:10], CLASSES)
    network, calls = network_of(perceptron), []

    def watching(
        module: nn.Module,
        parameters: Tensors,
        buffers: Tensors,
        pixels: torch.Tensor,
        wanted: torch.Tensor,
        names: Sequence[str],
        loss: Loss,
        mode: str,
    ) -> Tensors:
        numbers = (pixels[:, :, 0, 0] * 255).round().long()
        calls.append((numbers[:, 0] * 256 + numbers[:, 1]).tolist())
        assert torch.equal(data.train_labels[calls[-1]], wanted)
        return {name: parameters[name] for name in names}

    monkeypatch.setattr(room, "gradient", watching)
    feed = make_feed(data, seeds, 60, data.transform("none"))
    rows = trained_rows(network, seeds)
    gather(
        {"gradient"},
        network,
        seeds,
        rows,
        {},
        torch.ones_like(rows, dtype=torch.bool),
        feed=feed,
        sample=sample,
        round_=round_,
    )
    return calls, data, feed.train


def test_examples_are_drawn_without_replacement_from_the_seeds_training_split(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, _, train = seen(monkeypatch, Sample(examples=128))

    assert [len(examples) for examples in drawn] == [128, 128]
    for row in range(2):
        assert len(set(drawn[row])) == 128
        assert set(drawn[row]) <= set(train[row].tolist())  # never one that validates
    assert drawn[0] != drawn[1]
    assert seen(monkeypatch, Sample(examples=128))[0] == drawn
    # Every inner round looks at other examples.
    assert not set(map(tuple, seen(monkeypatch, Sample(examples=128), round_=1)[0])) & set(map(tuple, drawn))
    # A larger sample begins with the smaller one, and there are no more than there are.
    assert [examples[:128] for examples in seen(monkeypatch, Sample(examples=200, batch_size=999))[0]] == drawn
    assert [len(examples) for examples in seen(monkeypatch, Sample(examples=999, batch_size=999))[0]] == [240, 240]


def test_so_many_of_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, data, train = seen(monkeypatch, Sample(examples=None, per_class=10))

    for row in range(2):
        assert torch.bincount(data.train_labels[drawn[row]], minlength=CLASSES).tolist() == [10] * CLASSES
        assert len(set(drawn[row])) == 10 * CLASSES
        assert set(drawn[row]) <= set(train[row].tolist())
        # In mixed order, so that batches hold several classes.
        assert len(set(data.train_labels[drawn[row][:10]].tolist())) > 1
    assert set(drawn[0]) != set(drawn[1])
    assert seen(monkeypatch, Sample(examples=None, per_class=10), round_=1)[0] != drawn


@pytest.mark.parametrize(("size", "batches"), [(128, [100]), (30, [30, 30, 30, 10])])
def test_samples_come_in_batches(monkeypatch: pytest.MonkeyPatch, size: int, batches: list[int]) -> None:
    drawn, _, _ = seen(monkeypatch, Sample(examples=100, batch_size=size), seeds=(3,))
    assert [len(batch) for batch in drawn] == batches


def test_noise_is_uniform_and_of_its_seed_tensor_level_and_round() -> None:
    network = network_of(
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(72, 72), nn.ReLU(), nn.Linear(72, 72), nn.ReLU(), nn.Linear(72, CLASSES)
        )
    )
    rows = initialise(network, (3, 7))
    mask = torch.ones_like(rows, dtype=torch.bool)
    drawn = [
        gather({"noise"}, network, (3, 7), rows, {}, mask, level=level, round_=number)["noise"]
        for level, number in ((1, 0), (2, 0), (2, 1), (1, 2))
    ]
    every = [noise[name][row].flatten() for noise in drawn for name in ("1.weight", "3.weight") for row in range(2)]

    for values in every:
        assert float(values.min()) >= 0 and float(values.max()) < 1
        ordered = values.double().sort().values
        gap = (ordered - torch.arange(len(values)) / len(values)).abs().max()
        assert float(gap) < 1.95 / len(values) ** 0.5  # Kolmogorov & Smirnov, 1 in 1,000
    assert len({float(values[0]) for values in every}) == len(every)
    correlation = torch.corrcoef(torch.stack(every)) - torch.eye(len(every))
    assert float(correlation.abs().max()) < 5 / len(every[0]) ** 0.5
