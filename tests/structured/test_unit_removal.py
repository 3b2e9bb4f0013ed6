"""Masking units, removing them, and cutting stacked tensors are the same thing."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks_with_units import NETWORKS, built, groups_of, some_alive, tensors_of
from torch import nn
from torch.nn import functional

from lth.models import build_model
from lth.streams import stream
from lth.structured import UnitGroup, alive_units, cut, kept_indices, paste, shrink, unit_masks


def masked(module: nn.Module, groups: tuple[UnitGroup, ...], alive: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Mask the parameters of `module` in place; the masks by name."""
    parameters = dict(module.named_parameters())
    masks = unit_masks(groups, [units[None] for units in alive], {name: p.shape for name, p in parameters.items()})
    for name, mask in masks.items():
        parameters[name].data.mul_(mask[0])
    return {name: mask[0] for name, mask in masks.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_without_units_answers_as_the_masked_one(name: str) -> None:
    module, shape = built(name)
    groups = groups_of(copy.deepcopy(module), shape, 2 if name == "sum" else 10)
    alive = some_alive(groups, 1)
    small = shrink(module, groups, alive)
    images = torch.randn(4, *shape, generator=stream(0, "test/images"), dtype=torch.float64)
    full = module(images)
    masked(module, groups, alive)
    expected = module(images)

    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in module.parameters())
    assert not torch.allclose(full, expected, rtol=1e-2)
    torch.testing.assert_close(small(images), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(small.train()(images), module.train()(images), rtol=1e-8, atol=1e-8)
    # and their running statistics have moved alike
    batched = [units[None] for units in alive]
    kept = cut(groups, batched, {key: buffer[None] for key, buffer in module.named_buffers()})
    for key, buffer in small.named_buffers():
        torch.testing.assert_close(buffer, kept[key][0], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["mlp", "convolutional", "sum", "vgg11", "resnet20"])
def test_training_is_the_same_with_masks_and_without_the_units(name: str) -> None:
    module, shape = built(name)
    classes = 2 if name == "sum" else 10
    groups = groups_of(copy.deepcopy(module), shape, classes)
    alive = some_alive(groups, 2)
    small = shrink(module, groups, alive)
    masks = masked(module, groups, alive)
    generator = stream(0, "test/batches")
    optimizers = [torch.optim.SGD(network.parameters(), 0.05, 0.9, weight_decay=1e-2) for network in (module, small)]
    for _ in range(3):
        images = torch.randn(8, *shape, generator=generator, dtype=torch.float64)
        labels = torch.randint(classes, (8,), generator=generator)
        for network, optimizer in zip((module, small), optimizers, strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(network.train()(images), labels).backward()
            if network is module:
                for key, parameter in module.named_parameters():
                    if key in masks:
                        parameter.grad.mul_(masks[key])
            optimizer.step()

    batched = [units[None] for units in alive]
    kept = cut(groups, batched, {key: p.detach()[None] for key, p in module.named_parameters()})
    for key, parameter in small.named_parameters():
        torch.testing.assert_close(parameter, kept[key][0], rtol=1e-7, atol=1e-8)
    for key, mask in masks.items():
        assert not bool(dict(module.named_parameters())[key][~mask].any())


def test_a_smaller_perceptron_by_hand() -> None:
    module = build_model("mlp", (1, 2, 4), 3, {"hidden": [6, 4]})
    groups = groups_of(module, (1, 2, 4), 3)
    small = shrink(module, groups, [torch.tensor([1, 0, 1, 0, 0, 1]).bool(), torch.tensor([0, 1, 1, 0]).bool()])

    # 8-6-4-3 has (8 + 1) 6 + (6 + 1) 4 + (4 + 1) 3 = 97 parameters; 8-3-2-3 has 27 + 8 + 9 = 44.
    assert sum(p.numel() for p in module.parameters()) == 97
    assert sum(p.numel() for p in small.parameters()) == 44
    assert [(layer.in_features, layer.out_features) for layer in small if isinstance(layer, nn.Linear)] == [
        (8, 3),
        (3, 2),
        (2, 3),
    ]
    assert torch.equal(small[3].weight, module[3].weight[[1, 2]][:, [0, 2, 5]])
    assert torch.equal(small[3].bias, module[3].bias[[1, 2]])
    assert torch.equal(small[5].bias, module[5].bias)


def test_layers_know_their_new_sizes() -> None:
    module, shape = built("mobilenet_v2")
    groups = groups_of(module, shape)
    small = shrink(module, groups, some_alive(groups, 3))

    for layer in small.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.shape[:2] == (layer.out_channels, layer.in_channels // layer.groups)
            assert layer.groups in (1, layer.in_channels)
        if isinstance(layer, nn.BatchNorm2d):
            assert len(layer.weight) == len(layer.running_var) == layer.num_features
        assert not layer._forward_hooks
        assert not layer._forward_pre_hooks


def test_frozen_parameters_stay_frozen_and_the_original_stays_whole() -> None:
    module = build_model("mlp", (1, 2, 4), 3, {"hidden": [6, 4]})
    module[1].weight.requires_grad_(False)
    groups = groups_of(module, (1, 2, 4), 3)
    small = shrink(module, groups, some_alive(groups, 0))

    assert not small[1].weight.requires_grad
    assert small[1].bias.requires_grad
    assert module[1].weight.shape == (6, 8)


MODULE, SHAPE = built("convolutional")
GROUPS = groups_of(copy.deepcopy(MODULE), SHAPE)
SHAPES = {name: tuple(tensor.shape) for name, tensor in tensors_of(MODULE).items()}


@st.composite
def cohorts(draw: st.DrawFn) -> list[torch.Tensor]:
    """Units of several seeds, as many of each group in every seed but never none."""
    seeds = draw(st.integers(1, 3))
    alive = []
    for group in GROUPS:
        count = draw(st.integers(1, group.units))
        orders = [draw(st.permutations(range(group.units))) for _ in range(seeds)]
        alive.append(torch.tensor([[unit in order[:count] for unit in range(group.units)] for order in orders]))
    return alive


@given(cohorts())
def test_units_to_masks_and_back(alive: list[torch.Tensor]) -> None:
    masks = unit_masks(GROUPS, alive, SHAPES)

    assert set(masks) == set(SHAPES) - {"8.bias"}  # the classes' biases have nothing to do with units
    assert all(map(torch.equal, alive_units(GROUPS, masks), alive))
    # The dense layer after the flattening keeps its own units' rows and, of each channel, all 16 columns.
    columns = alive[1].repeat_interleave(16, 1)
    assert torch.equal(masks["6.weight"], alive[2][:, :, None] & columns[:, None, :])
    for found, expected in zip(
        kept_indices(GROUPS, alive, "6.weight", SHAPES["6.weight"]), [alive[2], columns], strict=True
    ):
        assert found.tolist() == [row.nonzero().flatten().tolist() for row in expected]


@given(cohorts())
def test_cut_and_paste(alive: list[torch.Tensor]) -> None:
    seeds = len(alive[0])
    generator = stream(0, "test/tensors")
    full = {name: torch.randn(seeds, *shape, generator=generator) for name, shape in SHAPES.items()}
    small = cut(GROUPS, alive, full)
    masks = unit_masks(GROUPS, alive, SHAPES)

    for seed in range(seeds):  # as shrinking one network after another does
        one = copy.deepcopy(MODULE).float()
        one.load_state_dict({name: tensor[seed] for name, tensor in full.items()})
        for name, tensor in tensors_of(shrink(one, GROUPS, [units[seed] for units in alive])).items():
            assert torch.equal(tensor, small[name][seed])
    back = paste(GROUPS, alive, small, SHAPES)
    for name, tensor in full.items():
        assert torch.equal(back[name], tensor * masks[name] if name in masks else tensor)
    again = cut(GROUPS, alive, back)
    assert all(torch.equal(again[name], small[name]) for name in small)


def test_seeds_that_keep_different_numbers_of_units_do_not_stack() -> None:
    alive = [torch.ones(2, group.units, dtype=torch.bool) for group in GROUPS]
    alive[0][1, 3] = False

    with pytest.raises(ValueError, match=r"different numbers of units in '0\.weight'"):
        cut(GROUPS, alive, {name: torch.zeros(2, *shape) for name, shape in SHAPES.items()})
