"""Validation splits and exact channel statistics."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lth.data import channel_statistics, load_dataset, split, splits
from lth.errors import DataError


@given(n=st.integers(2, 200), seed=st.integers(0, 2**31), data=st.data())
def test_a_split_is_a_sorted_partition(n: int, seed: int, data: st.DataObject) -> None:
    validation = data.draw(st.integers(1, n - 1))
    train, held_out = split(n, validation, seed)
    assert train.dtype == held_out.dtype == torch.int64
    assert len(held_out) == validation
    assert sorted(train.tolist() + held_out.tolist()) == list(range(n))
    assert train.tolist() == sorted(train.tolist())
    assert held_out.tolist() == sorted(held_out.tolist())
    again, _ = split(n, validation, seed)
    assert torch.equal(train, again)


def test_every_image_validates_equally_often_over_seeds() -> None:
    counts = torch.zeros(10)
    for seed in range(600):
        counts[split(10, 3, seed)[1]] += 1
    # 600 seeds x 3 of 10 images: 180 each. Draws without replacement vary less than chi-square assumes.
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("validation", [-1, 0, 10, 11])
def test_impossible_splits_are_refused(validation: int) -> None:
    with pytest.raises(DataError, match=rf"validation split of {validation} is impossible: choose 1\.\.9 of 10"):
        split(10, validation, seed=0)


def test_statistics_by_hand() -> None:
    images = torch.zeros(3, 3, 1, 2, dtype=torch.uint8)
    images[0, 0] = torch.tensor([0, 255])
    images[1, 0] = torch.tensor([255, 0])
    images[2, 0] = torch.tensor([77, 77])  # not measured
    images[:, 1] = 9
    images[0, 2] = torch.tensor([1, 2])
    images[1, 2] = torch.tensor([3, 6])
    mean, std = channel_statistics(images, torch.tensor([0, 1]))
    assert mean.dtype == std.dtype == torch.float32
    assert mean.tolist() == [127.5, 9.0, 3.0]
    # Channel 2: squares 1 + 4 + 9 + 36 = 50; 50 / 4 - 3 ** 2 = 3.5. A constant channel is divided by 1.
    assert std.tolist() == [127.5, 1.0, pytest.approx(math.sqrt(3.5), abs=1e-7)]


@given(seed=st.integers(0, 2**31), n=st.integers(1, 12), channels=st.integers(1, 3), block=st.integers(1, 100))
def test_statistics_are_exact_however_the_sum_is_cut(seed: int, n: int, channels: int, block: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (15, channels, 3, 4), dtype=torch.uint8, generator=generator)
    indices = torch.randperm(15, generator=generator)[:n]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "_PIXELS_AT_ONCE", block)
        mean, std = channel_statistics(images, indices)
    for channel in range(channels):
        pixels = [Fraction(value) for value in images[indices, channel].flatten().tolist()]
        average = sum(pixels) / len(pixels)
        variance = sum((pixel - average) ** 2 for pixel in pixels) / len(pixels)
        assert mean[channel] == torch.tensor(float(average))
        assert std[channel] == pytest.approx(math.sqrt(variance) if variance else 1.0, rel=2e-7)


def test_a_variance_that_floating_point_would_lose() -> None:
    images = torch.full((1000, 1, 32, 32), 255, dtype=torch.uint8)
    images[500, 0, 7, 7] = 254
    n = images.numel()
    _, std = channel_statistics(images, torch.arange(1000))
    # One pixel of n is lower by one: the variance is (n - 1) / n ** 2.
    assert float(std) == pytest.approx(math.sqrt(n - 1) / n, rel=2e-7)


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="at least one index"):
        channel_statistics(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))


def test_published_statistics_of_mnist(real_data: Path) -> None:
    mnist = load_dataset("mnist", real_data)
    mean, std = channel_statistics(mnist.train_inputs, torch.arange(60_000))
    assert float(mean) == pytest.approx(0.1306604762738429 * 255, rel=1e-6)
    assert float(std) == pytest.approx(0.30810780717887876 * 255, rel=1e-6)
