"""Parameters and operations against numbers worked by hand; a smaller network is a faster one."""

from __future__ import annotations

import torch
from networks_with_units import groups_of
from torch import nn

from lth.models import build_model
from lth.structured import measure, shrink
from lth.torchvision_import import import_torchvision


def test_sizes_by_hand() -> None:
    perceptron = measure(build_model("mlp", (1, 2, 4), 3, {"hidden": [6, 4]}), (1, 2, 4), batch=2, repeats=1)
    assert (perceptron.parameters, perceptron.flops) == (97, 2 * (8 * 6 + 6 * 4 + 4 * 3))

    lenet = measure(build_model("lenet5", (1, 28, 28), 10), (1, 28, 28), batch=2, repeats=1)
    # 20 filters of 5x5 at 24x24 places, 50 of 20x5x5 at 8x8; dense 800-500-10.
    assert lenet.flops == 2 * (24 * 24 * 20 * 25 + 8 * 8 * 50 * 20 * 25 + 800 * 500 + 500 * 10)
    assert lenet.parameters == 430_500 + 20 + 50 + 500 + 10

    # Depthwise: each of 6 channels has its own 3x3 filter; stride 2 leaves 4x4 places. Norms are not counted.
    depthwise = nn.Sequential(nn.Conv2d(6, 6, 3, 2, 1, groups=6), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(96, 2))
    assert measure(depthwise, (6, 8, 8), batch=2, repeats=1).flops == 2 * (16 * 6 * 9 + 96 * 2)


def test_resnet18_has_the_size_that_torchvision_publishes() -> None:
    models = import_torchvision().models
    published = models.ResNet18_Weights.IMAGENET1K_V1.meta  # multiply-adds, in thousands of millions
    size = measure(models.resnet18(), (3, 224, 224), batch=1, repeats=1)

    assert size.parameters == published["num_params"] == 11_689_512
    assert round(size.flops / 2e9, 3) == published["_ops"] == 1.814


def test_an_eighth_of_the_units_takes_a_fraction_of_the_time() -> None:
    module = build_model("vgg11", (3, 32, 32), 10, {"width": 0.5}).train()
    groups = groups_of(module, (3, 32, 32))
    small = shrink(module, groups, [torch.arange(group.units) < group.units // 8 for group in groups])
    full_size, small_size = (measure(network, (3, 32, 32), batch=16, repeats=5) for network in (module, small))

    # An eighth of the inputs and of the outputs: a 64th of the work, but for the first layer and the last.
    assert 40 < full_size.flops / small_size.flops < 64
    assert 40 < full_size.parameters / small_size.parameters < 64
    assert small_size.latency_seconds < full_size.latency_seconds / 2
    assert module.training  # as before, and untouched: in training mode the norms would have counted batches
    assert int(module.get_buffer("1.num_batches_tracked")) == 0
