"""Which units a network has, which tensors they live in, and which can never go."""

from __future__ import annotations

import pytest
import torch
from networks_with_units import IMAGES, Sum, built, groups_of, small_convolutional
from torch import nn
from torch.nn import functional

from lth.errors import InvalidExperiment
from lth.models import build_model, prunable_tensors
from lth.models.computed_weights import let_rows_be_zero
from lth.structured import UnitGroup, unit_groups


def places(group: UnitGroup, role: str) -> list[tuple[str, int]]:
    return [(slices.tensor, slices.dim) for slices in getattr(group, role)]


def test_the_units_of_dense_layers() -> None:
    first, second = groups_of(build_model("mlp", (1, 2, 4), 3, {"hidden": [6, 4]}), (1, 2, 4), 3)

    assert (first.name, first.units, second.name, second.units) == ("1.weight", 6, "3.weight", 4)
    assert places(first, "writers") == [("1.weight", 0)]
    assert places(first, "others") == [("1.bias", 0)]
    assert places(first, "readers") == [("3.weight", 1)]
    assert places(first, "norms") == []
    assert places(second, "readers") == [("5.weight", 1)]  # whose rows, the classes, are no group
    assert all(torch.equal(slices.index, torch.arange(6)[:, None]) for slices in first.slices)


def test_a_flattened_channel_is_read_by_a_block_of_columns() -> None:
    groups = groups_of(small_convolutional(), IMAGES)

    assert [(group.name, group.units) for group in groups] == [("0.weight", 4), ("2.weight", 6), ("6.weight", 9)]
    channels = groups[1]
    assert places(channels, "others") == [("2.bias", 0), ("3.weight", 0)]  # each channel has its own slope of PReLU
    assert places(channels, "readers") == [("6.weight", 1)]
    assert torch.equal(channels.readers[0].index, torch.arange(96).view(6, 16))  # 4x4 pixels each, after the pool


def test_summed_branches_are_one_group_of_several_writers() -> None:
    (group,) = groups_of(Sum(), (2, 1, 1), 2)

    assert places(group, "writers") == [("left.weight", 0), ("right.weight", 0)]
    assert sorted(places(group, "norms")) == [("norm_left.weight", 0), ("norm_right.weight", 0)]
    assert sorted(places(group, "others")) == [("left.bias", 0)] + [
        (f"norm_{side}.{name}", 0) for side in ("left", "right") for name in ("bias", "running_mean", "running_var")
    ]
    assert places(group, "readers") == [("output.weight", 1)]


def test_the_groups_of_a_residual_network() -> None:
    groups = groups_of(*built("resnet20"))
    streams = [group for group in groups if len(group.writers) > 1]

    # 9 blocks have inner channels of their own; each of the 3 stages has one stream that its blocks add to.
    assert len(groups) == 12
    assert [(group.name, group.units, *map(len, (group.writers, group.norms, group.readers))) for group in streams] == [
        ("conv.weight", 8, 4, 4, 5),  # read by 3 blocks, the next stage's first block and its projection
        ("blocks.3.conv2.weight", 16, 4, 4, 4),
        ("blocks.6.conv2.weight", 32, 4, 4, 3),
    ]
    assert groups[0].name == "conv.weight"
    assert groups[1].name == "blocks.0.conv1.weight"


def test_padded_shortcuts_leave_the_inner_channels_of_the_blocks() -> None:
    module, shape = built("resnet20 padded")

    assert [group.name for group in groups_of(module, shape)] == [f"blocks.{block}.conv1.weight" for block in range(9)]


def test_a_depthwise_filter_goes_with_the_channel_that_passes_through_it() -> None:
    groups = groups_of(*built("mobilenet_v2"))
    inner = next(group for group in groups if group.name == "features.2.conv.0.0.weight")

    assert places(inner, "writers") == [("features.2.conv.0.0.weight", 0), ("features.2.conv.1.0.weight", 0)]
    assert places(inner, "readers") == [("features.2.conv.2.weight", 1)]
    assert inner.units == 96


class Awkward(nn.Module):
    """Units that the code counts on (`view`, layer norm, groups of channels), and some that it does not."""

    def __init__(self, inner: str) -> None:
        super().__init__()
        self.inner = inner
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=2 if inner == "groups" else 1)
        self.norm = nn.LayerNorm(8)
        self.output = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.second(functional.relu(self.first(x)))).mean((2, 3))
        if self.inner == "view":
            x = x.view(-1, 8)
        return self.output(self.norm(x) if self.inner == "norm" else x)


@pytest.mark.parametrize(
    ("inner", "left"),
    [("", ["first.weight", "second.weight"]), ("view", ["first.weight"]), ("norm", ["first.weight"]), ("groups", [])],
)
def test_units_that_the_network_cannot_do_without_are_left_out(inner: str, left: list[str]) -> None:
    module, prunable = Awkward(inner), ["first.weight", "second.weight", "output.weight"]

    if left:
        assert [group.name for group in unit_groups(module, IMAGES, prunable)] == left
    else:  # the channels of a grouped convolution, on either side of it
        with pytest.raises(InvalidExperiment, match="no neuron, filter or channel"):
            unit_groups(module, IMAGES, prunable)


def test_a_wrong_coupling_is_found_out_by_trying() -> None:
    class Shuffled(Awkward):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = functional.relu(self.first(x)).flip(1)  # channel 0 is read as channel 7: no graph of shapes tells
            return self.output(functional.relu(self.second(x)).mean((2, 3)))

    module = Shuffled("")
    nn.init.zeros_(module.output.weight)  # as it begins, it would answer the same whatever is removed
    assert [group.name for group in unit_groups(module, IMAGES, ["first.weight", "second.weight"])] == ["second.weight"]


def test_a_weight_of_two_layers_is_never_cut_but_a_layer_that_runs_twice_is() -> None:
    module = nn.Sequential(
        nn.Flatten(),
        nn.Linear(192, 12),
        nn.ReLU(),
        nn.Linear(12, 12),
        nn.ReLU(),
        nn.Linear(12, 12),
        nn.ReLU(),
        nn.Linear(12, 6),
        nn.ReLU(),
        nn.Linear(6, 10),
    )
    module[5].weight = module[3].weight
    assert [group.name for group in groups_of(module, IMAGES)] == ["7.weight"]

    # A layer that runs twice reads what it writes, and loses both together.
    module[5] = module[3]
    group, other = groups_of(module, IMAGES)
    assert (group.name, places(group, "writers"), other.name) == (
        "1.weight",
        [("1.weight", 0), ("3.weight", 0)],
        "7.weight",
    )
    assert sorted(places(group, "readers")) == [("3.weight", 1), ("7.weight", 1)]


def test_every_writer_must_be_prunable() -> None:
    assert [group.name for group in unit_groups(small_convolutional(), IMAGES, ["2.weight", "8.weight"])] == [
        "2.weight"
    ]
    with pytest.raises(InvalidExperiment, match="outside model.prunable"):
        unit_groups(Sum(), (2, 1, 1), ["left.weight", "output.weight"])
    with pytest.raises(InvalidExperiment, match="prune single weights"):
        unit_groups(nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), IMAGES, ["1.weight"])


def test_looking_changes_neither_the_module_nor_the_generator() -> None:
    module = small_convolutional().train()
    module[0].weight.requires_grad_(False)
    before, state = {name: tensor.clone() for name, tensor in module.state_dict().items()}, torch.get_rng_state()

    assert [group.name for group in groups_of(module, IMAGES)] == ["2.weight", "6.weight"]  # 0 is frozen
    assert module.training
    assert not module[0].weight.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_shuffled_channels_are_refused_in_words() -> None:
    shape = (3, 32, 32)
    module = build_model("torchvision", shape, 10, {"architecture": "shufflenet_v2_x0_5"})
    names = [tensor.name for tensor in prunable_tensors(module, shape, 10)]
    with pytest.raises(InvalidExperiment, match="shuffling channels; prune single weights"):
        unit_groups(module, shape, names)


def test_units_that_frozen_weights_read_or_write_stay() -> None:
    module = nn.Sequential(nn.Flatten(), *(nn.Linear(192 if not n else 6, 6) for n in range(4)), nn.Linear(6, 10))
    module[3].requires_grad_(False)

    assert [group.name for group in groups_of(module, IMAGES)] == ["1.weight", "4.weight"]


def test_the_units_of_a_computed_weight_stay() -> None:
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(192, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), normed, nn.Linear(6, 10)
    )
    let_rows_be_zero(module)

    assert [group.name for group in groups_of(module, IMAGES)] == ["1.weight"]
