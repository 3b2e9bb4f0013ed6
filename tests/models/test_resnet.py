"""CIFAR ResNets: sizes and shapes worked out by hand, both shortcuts, seeds stacked and in turn."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from lth.data import ImageData
from lth.engine import CohortTraining, Network, Recipe, Start, describe, initial_buffers, initialise, make_feed
from lth.engine.optimizers import SGD
from lth.engine.schedules import Constant
from lth.errors import InvalidExperiment
from lth.models import PrunableTensor, build_model, prunable_tensors

CIFAR = (3, 32, 32)
SMALL: dict[str, Any] = {"depth": 8, "width": 4}


def tensors_of(name: str, **arguments: Any) -> tuple[PrunableTensor, ...]:
    return prunable_tensors(build_model(name, CIFAR, 10, arguments), CIFAR, 10)


def by_hand(blocks: int, width: int, projection: bool) -> int:
    """Convolutional weights: the first, `blocks` blocks of two in each of three stages, two shortcuts."""
    first, second, third = width, 2 * width, 4 * width
    total = 3 * first * 9 + 2 * blocks * first * first * 9
    for before, after in ((first, second), (second, third)):
        total += before * after * 9 + (2 * blocks - 1) * after * after * 9 + (before * after if projection else 0)
    return total


@pytest.mark.parametrize(
    ("name", "arguments", "conv", "dense"),
    [
        ("resnet20", {}, 270_256, 640),  # 274K with norms and bias, about 270K in convolutions (Frankle & Carbin 2019)
        ("resnet20", {"shortcut": "padding"}, 267_696, 640),  # 0.27M parameters in all (He et al. 2016, table 6)
        ("resnet32", {}, by_hand(5, 16, True), 640),
        ("resnet32", {"width": 32}, by_hand(5, 32, True), 1280),
        ("resnet56", {"shortcut": "padding"}, by_hand(9, 16, False), 640),
        ("resnet", {"depth": 20}, by_hand(3, 16, True), 640),
        ("resnet", {"depth": 8, "width": 5}, by_hand(1, 5, True), 200),
    ],
)
def test_weights(name: str, arguments: dict[str, Any], conv: int, dense: int) -> None:
    tensors = tensors_of(name, **arguments)

    assert sum(tensor.size for tensor in tensors if tensor.kind == "conv") == conv
    assert [tensor.size for tensor in tensors if tensor.kind == "dense"] == [dense]
    assert tensors[-1].output


def test_parameters_of_resnet20_with_norms_and_bias() -> None:
    # 688 channels are normed outside of shortcuts, 96 in them; each has a scale and a shift.
    for shortcut, expected in (("padding", 269_722), ("projection", 269_722 + 2560 + 192)):
        module = build_model("resnet20", CIFAR, 10, {"shortcut": shortcut})
        assert sum(parameter.numel() for parameter in module.parameters()) == expected
        assert [name for name, _ in module.named_parameters() if name.endswith("bias") and "conv" in name] == []


def test_shapes_in_the_order_of_running_and_where_they_are_applied() -> None:
    tensors = tensors_of("resnet20", shortcut="padding")

    stages = [
        ((16, 3, 3, 3), 1024),
        *[((16, 16, 3, 3), 1024)] * 6,
        ((32, 16, 3, 3), 256),
        *[((32, 32, 3, 3), 256)] * 5,
        ((64, 32, 3, 3), 64),
        *[((64, 64, 3, 3), 64)] * 5,
        ((10, 64), 1),
    ]
    assert [(tensor.shape, tensor.positions) for tensor in tensors] == stages
    # What ERK (Evci et al. 2020) gives each stage at a density of 10% spends 10% of just these weights.
    erk = [1, *[0.3027] * 6, 0.2151, *[0.1394] * 5, 0.1016, *[0.0667] * 5, 1]
    kept = sum(density * tensor.size for density, tensor in zip(erk, tensors, strict=True))
    assert kept == pytest.approx(0.1 * 268_336, abs=0.00005 * 268_336)

    projected = tensors_of("resnet20")
    assert [tensor for tensor in projected if "shortcut" not in tensor.name] == list(tensors)
    assert [(t.name, t.shape, t.positions) for t in projected if "shortcut" in t.name] == [
        ("blocks.3.shortcut.0.weight", (32, 16, 1, 1), 256),
        ("blocks.6.shortcut.0.weight", (64, 32, 1, 1), 64),
    ]


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 9, 7), (2, 1, 1)])
@pytest.mark.parametrize("shortcut", ["projection", "padding"])
def test_images_of_any_size(shape: tuple[int, int, int], shortcut: str) -> None:
    module = build_model("resnet", shape, 7, {**SMALL, "shortcut": shortcut})

    assert module(torch.rand(5, *shape)).shape == (5, 7)


@pytest.mark.parametrize("shortcut", ["projection", "padding"])
def test_a_block_adds_its_shortcut(shortcut: str) -> None:
    """With the second convolution at zero only the shortcut is left."""
    module = build_model("resnet", CIFAR, 10, {**SMALL, "shortcut": shortcut}).eval()
    same, halving = module.get_submodule("blocks.0"), module.get_submodule("blocks.1")
    for block in (same, halving):
        nn.init.zeros_(block.get_parameter("conv2.weight"))
    images = torch.randn(2, 4, 5, 5)

    torch.testing.assert_close(same(images), images.clamp(min=0))
    if shortcut == "padding":
        expected = torch.zeros(2, 8, 3, 3)
        expected[:, :4] = images[:, :, [0, 2, 4]][:, :, :, [0, 2, 4]].clamp(min=0)
        torch.testing.assert_close(halving(images), expected)
    else:
        weight = halving.get_parameter("shortcut.0.weight")[:, :, 0, 0]
        expected = torch.einsum("oi,nihw->nohw", weight, images[:, :, ::2, ::2]) / (1 + 1e-5) ** 0.5
        torch.testing.assert_close(halving(images), expected.clamp(min=0))


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        *[
            ({"depth": depth}, f"depth is {depth!r}; a CIFAR ResNet has 6n + 2 layers: give 8, 14, 20")
            for depth in (18, 2, 0, -4, 20.0, "20", True, None)
        ],
        *[
            ({"depth": 8, "width": width}, f"width is {width!r}; give the channels of the first stage, e.g. 16")
            for width in (0, -16, 1.5, "16", True, None)
        ],
        *[
            ({"depth": 8, "shortcut": shortcut}, f"shortcut is {shortcut!r}; choose projection or padding")
            for shortcut in ("A", "", None, 1)
        ],
    ],
)
def test_wrong_arguments_are_named_with_the_remedy(arguments: dict[str, Any], wanted: str) -> None:
    with pytest.raises(InvalidExperiment) as caught:
        build_model("resnet", CIFAR, 10, arguments)

    assert str(caught.value).startswith(f"model.arguments.{wanted}")


def noise() -> ImageData:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (160, 3, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.arange(160) % 10
    return ImageData("noise", pixels[40:], labels[40:], pixels[:40], labels[:40], 10)


def network(shortcut: str) -> Network:
    build = partial(build_model, "resnet", (3, 8, 8), 10, {**SMALL, "shortcut": shortcut})
    return describe(build, (3, 8, 8), 10, prunable_tensors(build(), (3, 8, 8), 10), "glorot_normal")


def every_other(network: Network, seeds: int) -> torch.Tensor:
    """Mask rows that prune every second weight of every tensor."""
    return network.masks(
        {
            tensor.name: (torch.arange(tensor.size) % 2 == 0).view(1, *tensor.shape).expand(seeds, *tensor.shape)
            for tensor in network.prunable
        }
    )


def train(network: Network, seeds: tuple[int, ...], steps: int, stack: bool) -> CohortTraining:
    recipe = Recipe(SGD(learning_rate=0.05, momentum=0.9), Constant(), batch_size=20, steps=steps, evaluate_every=steps)
    start = Start(initialise(network, seeds), initial_buffers(network, seeds), every_other(network, len(seeds)))
    return CohortTraining(
        network, recipe, make_feed(noise(), seeds, 40, noise().transform("channel")), start, stack
    ).advance()


@pytest.mark.parametrize("shortcut", ["projection", "padding"])
def test_seeds_train_in_turn_with_norms_of_their_own(shortcut: str) -> None:
    found = network(shortcut)
    begin, trained = initialise(found, (3, 8)), train(found, (3, 8), 1, stack=False)

    assert found.stackable and not found.draws_randomness
    assert trained.buffers["norm.num_batches_tracked"].tolist() == [1, 1]
    # The running mean after one batch: a tenth of the mean of what the first convolution made of that seed's batch.
    images, _ = trained.batches(0)
    for row in range(2):
        kernel = found.layout.views(begin)["conv.weight"][row].clone().flatten()
        kernel[1::2] = 0  # the mask
        mean = functional.conv2d(images[row], kernel.view(4, 3, 3, 3), padding=1).mean((0, 2, 3))
        torch.testing.assert_close(trained.buffers["norm.running_mean"][row], 0.1 * mean, rtol=1e-4, atol=1e-6)
        alone = train(found, ((3, 8)[row],), 1, stack=False)
        assert torch.equal(alone.weights[0], trained.weights[row])
        assert torch.equal(alone.buffers["norm.running_var"][0], trained.buffers["norm.running_var"][row])
    assert not torch.allclose(trained.buffers["norm.running_mean"][0], trained.buffers["norm.running_mean"][1])
    assert not trained.weights[~every_other(found, 2)].any()


@pytest.mark.parametrize("shortcut", ["projection", "padding"])
def test_stacked_seeds_train_as_they_do_in_turn(shortcut: str) -> None:
    found = network(shortcut)
    turns, stacked = (train(found, (0, 1), 3, stack).result() for stack in (False, True))

    torch.testing.assert_close(stacked.curves.validation_loss, turns.curves.validation_loss, rtol=1e-3, atol=1e-4)
    for name, buffer in turns.end.buffers.items():
        torch.testing.assert_close(stacked.end.buffers[name], buffer, rtol=1e-3, atol=1e-4)


def test_its_channels_can_be_followed_and_removed() -> None:
    pruning = pytest.importorskip("torch_pruning")
    module = build_model("resnet", CIFAR, 10, SMALL)
    graph = pruning.DependencyGraph().build_dependency(module, torch.zeros(2, *CIFAR))
    # The stream of the second stage: its block's second convolution, its shortcut, and all that reads them.
    group = graph.get_pruning_group(module.get_submodule("blocks.1.conv2"), pruning.prune_conv_out_channels, [1, 6])
    group.prune()

    assert {name: tuple(parameter.shape) for name, parameter in module.named_parameters() if parameter.ndim == 4} == {
        "conv.weight": (4, 3, 3, 3),
        "blocks.0.conv1.weight": (4, 4, 3, 3),
        "blocks.0.conv2.weight": (4, 4, 3, 3),
        "blocks.1.conv1.weight": (8, 4, 3, 3),
        "blocks.1.conv2.weight": (6, 8, 3, 3),
        "blocks.1.shortcut.0.weight": (6, 4, 1, 1),
        "blocks.2.conv1.weight": (16, 6, 3, 3),
        "blocks.2.conv2.weight": (16, 16, 3, 3),
        "blocks.2.shortcut.0.weight": (16, 6, 1, 1),
    }
    assert module(torch.zeros(2, *CIFAR)).shape == (2, 10)
