"""The built-in networks have the published sizes and run."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lth.errors import InvalidExperiment
from lth.models import PrunableTensor, build_model, model_names, prunable_tensors

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)


def tensors_of(name: str, shape: tuple[int, int, int], **arguments: Any) -> tuple[PrunableTensor, ...]:
    return prunable_tensors(build_model(name, shape, 10, arguments), shape, 10)


def sizes(tensors: tuple[PrunableTensor, ...], kind: str) -> list[int]:
    return [tensor.size for tensor in tensors if tensor.kind == kind]


def test_lenet_300_100() -> None:
    tensors = tensors_of("mlp", MNIST, hidden=[300, 100])

    assert sizes(tensors, "dense") == [784 * 300, 300 * 100, 100 * 10]
    assert sum(tensor.size for tensor in tensors) == 266_200
    assert tensors == tensors_of("mlp", MNIST)  # the default


@pytest.mark.parametrize(
    ("name", "conv", "dense"),
    [  # 4.3M/38K, 2.4M/260K and 2,261,184 in all with 1.1M (Frankle & Carbin 2019, figure 2)
        ("conv2", [3 * 64 * 9, 64 * 64 * 9], [16 * 16 * 64 * 256, 256 * 256, 2560]),
        ("conv4", [3 * 64 * 9, 64 * 64 * 9, 64 * 128 * 9, 128 * 128 * 9], [8 * 8 * 128 * 256, 256 * 256, 2560]),
        (
            "conv6",
            [3 * 64 * 9, 64 * 64 * 9, 64 * 128 * 9, 128 * 128 * 9, 128 * 256 * 9, 256 * 256 * 9],
            [4 * 4 * 256 * 256, 256 * 256, 2560],
        ),
    ],
)
def test_conv_networks(name: str, conv: list[int], dense: list[int]) -> None:
    tensors = tensors_of(name, CIFAR)

    assert sizes(tensors, "conv") == conv
    assert sizes(tensors, "dense") == dense
    published = {"conv2": (4_300_992, 38_592), "conv4": (2_425_024, 259_776), "conv6": (2_261_184, 1_144_512)}
    assert (sum(conv) + sum(dense), sum(conv)) == published[name]


def test_lenet5_in_its_caffe_form() -> None:
    tensors = tensors_of("lenet5", MNIST)

    assert [tensor.shape for tensor in tensors] == [(20, 1, 5, 5), (50, 20, 5, 5), (500, 800), (10, 500)]
    assert sum(tensor.size for tensor in tensors) == 430_500


@pytest.mark.parametrize("name", ["mlp", "lenet5", "conv2", "conv4", "conv6"])
@pytest.mark.parametrize("shape", [MNIST, CIFAR])
def test_every_network_answers_with_logits_and_ends_in_its_output_layer(name: str, shape: tuple[int, int, int]) -> None:
    module = build_model(name, shape, 7)
    tensors = prunable_tensors(module, shape, 7)

    assert module(torch.zeros(3, *shape)).shape == (3, 7)
    assert [tensor.output for tensor in tensors] == [False] * (len(tensors) - 1) + [True]
    assert tensors[-1].shape[0] == 7
    assert not isinstance(module[-1], torch.nn.Softmax)  # type: ignore[index]
    # Weights only; each has a bias, which is not pruned.
    names = {tensor.name for tensor in tensors}
    assert {parameter for parameter, _ in module.named_parameters()} - names == {
        tensor.replace("weight", "bias") for tensor in names
    }


@pytest.mark.parametrize(
    ("hidden", "shapes"),
    [([], [(10, 784)]), ([5], [(5, 784), (10, 5)]), ([4, 3, 2], [(4, 784), (3, 4), (2, 3), (10, 2)])],
)
def test_a_perceptron_of_any_width_and_depth(hidden: list[int], shapes: list[tuple[int, int]]) -> None:
    assert [tensor.shape for tensor in tensors_of("mlp", MNIST, hidden=hidden)] == shapes


@pytest.mark.parametrize("hidden", [300, "300", [0], [-3], [1.5], [True], ["300"], None])
def test_widths_that_are_none_are_refused(hidden: object) -> None:
    with pytest.raises(InvalidExperiment) as caught:
        build_model("mlp", MNIST, 10, {"hidden": hidden})

    assert str(caught.value) == f"model.arguments.hidden is {hidden!r}; give widths above 0, e.g. [300, 100]"


@pytest.mark.parametrize(("name", "side"), [("lenet5", 15), ("conv2", 1), ("conv4", 3), ("conv6", 7)])
def test_images_too_small_for_a_network_are_refused(name: str, side: int) -> None:
    with pytest.raises(InvalidExperiment, match=f"^images of {side}x{side} are too small for model '{name}'$"):
        build_model(name, (1, side, side), 10)
    build_model(name, (1, side + 1, side + 1), 10)


def test_every_network_is_described_in_one_line() -> None:
    assert set(model_names()) == {
        "conv2",
        "conv4",
        "conv6",
        "lenet5",
        "mlp",
        "resnet",
        "resnet20",
        "resnet32",
        "resnet56",
        "torchvision",
        "vgg11",
        "vgg16",
        "vgg19",
    }
    assert all(len(text) > 20 and "\n" not in text for text in model_names().values())
