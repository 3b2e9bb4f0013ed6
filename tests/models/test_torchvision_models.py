"""torchvision's classifiers, fitted to the data: channels, head, auxiliary outputs; names; imported when asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from functools import partial
from typing import Any

import pytest
import torch

from lth.engine import describe
from lth.errors import InvalidExperiment
from lth.models import build_model, prunable_tensors


def refusal(arguments: dict[str, Any]) -> str:
    with pytest.raises(InvalidExperiment) as caught:
        build_model("torchvision", (3, 32, 32), 10, arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(
    ("architecture", "filters", "head"),
    [
        ("resnet18", (64, 7, "conv1.weight"), ("fc.weight", 512)),
        ("mobilenet_v2", (32, 3, "features.0.0.weight"), ("classifier.1.weight", 1280)),
    ],
)
def test_channels_and_head_are_fitted_to_the_data(
    channels: int, architecture: str, filters: tuple[int, int, str], head: tuple[str, int]
) -> None:
    shape = (channels, 32, 32)
    module = build_model("torchvision", shape, 7, {"architecture": architecture})
    tensors = prunable_tensors(module, shape, 7)

    count, side, name = filters
    assert (tensors[0].name, tensors[0].shape) == (name, (count, channels, side, side))
    assert tensors[0].positions == 16 * 16  # its stride is two, as torchvision's
    assert (tensors[-1].name, tensors[-1].shape, tensors[-1].output) == (head[0], (7, head[1]), True)
    assert module(torch.rand(2, *shape)).shape == (2, 7)
    biases = [name for name, _ in module.named_parameters() if name == tensors[0].name.replace("weight", "bias")]
    assert biases == []  # a norm follows


def test_a_resnet18_can_be_stacked_and_dropout_takes_turns() -> None:
    def described(architecture: str, **arguments: Any) -> tuple[bool, bool]:
        build = partial(build_model, "torchvision", (1, 32, 32), 10, {"architecture": architecture, **arguments})
        network = describe(build, (1, 32, 32), 10, prunable_tensors(build(), (1, 32, 32), 10), "own")
        return network.stackable, network.draws_randomness

    assert described("resnet18") == (True, False)
    assert described("mobilenet_v2", width_mult=0.1) == (False, True)


@pytest.mark.parametrize(("architecture", "side"), [("googlenet", 32), ("inception_v3", 75)])
def test_auxiliary_classifiers_are_left_out(architecture: str, side: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = build_model("torchvision", (1, side, side), 10, {"architecture": architecture, "init_weights": False})

    answer = module.train()(torch.rand(2, 1, side, side))
    assert isinstance(answer, torch.Tensor) and answer.shape == (2, 10)
    assert [name for name, _ in module.named_parameters() if "aux" in name.lower()] == []


def test_auxiliary_classifiers_that_are_asked_for_are_refused() -> None:
    answer = refusal({"architecture": "googlenet", "aux_logits": True})

    assert answer == "model.arguments.aux_logits is True, but auxiliary classifiers are not trained here; leave it out"


@pytest.mark.parametrize(
    "architecture",
    [
        "alexnet",
        "convnext_tiny",
        "densenet121",
        "efficientnet_b0",
        "mnasnet0_5",
        "shufflenet_v2_x0_5",
        "squeezenet1_0",
        "swin_t",
        "vgg11_bn",
        "vit_b_16",
    ],
)
def test_every_family_takes_images_of_one_channel(architecture: str) -> None:
    with torch.device("meta"):  # shapes only: no memory, no arithmetic
        module = build_model("torchvision", (1, 64, 64), 7, {"architecture": architecture})
        tensors = prunable_tensors(module, (1, 64, 64), 7)

    assert tensors[0].shape[1] == 1 and tensors[0].kind == "conv"
    assert tensors[-1].output and tensors[-1].shape[0] == 7


def test_arguments_are_passed_on() -> None:
    with torch.device("meta"):
        narrow = build_model("torchvision", (3, 32, 32), 10, {"architecture": "mobilenet_v2", "width_mult": 0.25})
        transformer = build_model("torchvision", (3, 32, 32), 10, {"architecture": "vit_b_16", "image_size": 64})

    assert narrow.get_parameter("features.0.0.weight").shape == (8, 3, 3, 3)
    assert transformer.image_size == 64
    assert "unexpected keyword argument 'depth'" in refusal({"architecture": "resnet18", "depth": 3})
    assert "keyword argument 'weights'" in refusal({"architecture": "resnet18", "weights": "DEFAULT"})
    assert "missing 1 required positional argument: 'architecture'" in refusal({})


@pytest.mark.parametrize(
    ("architecture", "wanted"),
    [
        ("resnet19", "did you mean resnet18 or "),
        ("fasterrcnn_resnet50_fpn", "is no classifier of torchvision"),
        ("mobilenetv2", "mobilenet_v2"),
        ("zzzz", "give one such as resnet18, mobilenet_v2 or vgg11_bn"),
        (18, "18 is no classifier"),
        (None, "None is no classifier"),
        (["resnet18"], "is no classifier"),
    ],
)
def test_unknown_architectures_are_answered_with_known_ones(architecture: Any, wanted: str) -> None:
    answer = refusal({"architecture": architecture})

    assert answer.startswith(f"model.arguments.architecture {architecture!r} is no classifier of torchvision; ")
    assert wanted in answer


def test_its_weights_come_from_the_generator_of_the_caller() -> None:
    def weights(seed: int) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = build_model("torchvision", (1, 32, 32), 3, {"architecture": "mobilenet_v2", "width_mult": 0.1})
            return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_networks_are_known_without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys, lth.models; assert not {'torchvision', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

    def fail(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", fail)
    assert "torchvision is not installed" in refusal({"architecture": "resnet18"})
