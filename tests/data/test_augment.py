"""Random crops and flips against independent references, one example at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lth.data import AugmentationDraw, augment, draw_augmentation
from lth.errors import DataError
from lth.streams import stream
from lth.torchvision_import import import_torchvision


def random_images(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=stream(0, "test images"))


def test_an_image_by_hand() -> None:
    image = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).reshape(1, 1, 2, 2)
    draw = AugmentationDraw(torch.tensor([[0, 1]]), torch.tensor([False]))
    # Padded by one, rows 0-1 and columns 1-2: the image moves down by one row.
    assert augment(image, draw, 1).tolist() == [[[[0, 0], [1, 2]]]]
    flipped = AugmentationDraw(torch.tensor([[0, 0]]), torch.tensor([True]))
    # Rows 0-1, columns 0-1: [[0, 0], [0, 1]], then mirrored. Flipping first would have given [[0, 0], [0, 2]].
    assert augment(image, flipped, 1).tolist() == [[[[0, 0], [1, 0]]]]


@given(
    n=st.integers(1, 6),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    padding=st.integers(0, 5),
    seed=st.integers(0, 1000),
)
def test_equals_slicing_each_padded_image(
    n: int, channels: int, height: int, width: int, padding: int, seed: int
) -> None:
    images = random_images(n, channels, height, width)
    before = images.clone()
    draw = draw_augmentation(n, padding, True, stream(seed, "augment"))
    result = augment(images, draw, padding)
    assert result.dtype == torch.uint8
    assert torch.equal(images, before)
    for i in range(n):
        top, left = draw.offsets[i].tolist()
        padded = np.pad(images[i].numpy(), ((0, 0), (padding, padding), (padding, padding)))
        expected = padded[:, top : top + height, left : left + width]
        if draw.flips[i]:
            expected = expected[:, :, ::-1]
        assert np.array_equal(result[i].numpy(), expected)


def test_equals_torchvision() -> None:
    import_torchvision()
    from torchvision.transforms import functional

    images = random_images(64, 3, 32, 32)
    draw = draw_augmentation(64, 4, True, stream(1, "augment"))
    expected = []
    for image, (top, left), flip in zip(images, draw.offsets.tolist(), draw.flips.tolist(), strict=True):
        crop = functional.crop(functional.pad(image, [4]), top, left, 32, 32)
        expected.append(functional.hflip(crop) if flip else crop)
    assert torch.equal(augment(images, draw, 4), torch.stack(expected))


def test_offsets_and_flips_are_uniform() -> None:
    padding = 2
    draw = draw_augmentation(25_000, padding, True, stream(2, "augment"))
    assert draw.offsets.dtype == torch.int64
    assert draw.flips.dtype == torch.bool
    # 5 x 5 positions and 2 flips: 50 cells of 500 expected examples.
    cells = (draw.offsets[:, 0] * 5 + draw.offsets[:, 1]) * 2 + draw.flips
    counts = torch.bincount(cells, minlength=50)
    assert len(counts) == 50
    assert int(draw.offsets.min()) == 0
    assert int(draw.offsets.max()) == 2 * padding
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_a_draw_is_decided_by_its_generator() -> None:
    first, again, other = (draw_augmentation(50, 4, True, stream(seed, "augment", 7)) for seed in (3, 3, 4))
    assert torch.equal(first.offsets, again.offsets) and torch.equal(first.flips, again.flips)
    assert not torch.equal(first.offsets, other.offsets)
    without_flips = draw_augmentation(50, 4, False, stream(3, "augment", 7))
    assert torch.equal(first.offsets, without_flips.offsets)
    assert not without_flips.flips.any()


def test_nothing_asked_for_changes_nothing() -> None:
    images = random_images(5, 1, 4, 4)
    draw = draw_augmentation(5, 0, False, stream(0, "augment"))
    assert torch.equal(augment(images, draw, 0), images)


def test_negative_padding_is_refused() -> None:
    with pytest.raises(DataError, match="crop padding of -1"):
        draw_augmentation(5, -1, False, stream(0, "augment"))


def test_no_step_needs_a_value_on_the_host() -> None:
    # Tensors on the meta device have no values: reading one, as a wait for a GPU would, raises.
    draw = draw_augmentation(4, 2, True, stream(0, "augment")).to("meta")
    assert augment(random_images(4, 3, 8, 8).to("meta"), draw, 2).shape == (4, 3, 8, 8)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_on_a_gpu_without_waiting_for_it() -> None:
    images, draw = random_images(64, 3, 32, 32), draw_augmentation(64, 4, True, stream(5, "augment"))
    there, draw_there = images.cuda(), draw.to("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = augment(there, draw_there, 4)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(result.cpu(), augment(images, draw, 4))
