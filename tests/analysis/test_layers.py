"""Live paths and layer tables: small networks by hand, perceptrons against path counts, depth, pooling, shortcuts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from lth.analysis.layers import layer_table, live_weights
from lth.engine import Network, describe, exact_arithmetic
from lth.errors import LthError
from lth.models import build_model, prunable_tensors
from lth.store import Unit
from lth.store.analysis_schemas import LAYERS
from lth.streams import stream


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with exact_arithmetic(1, "float32"):
        yield


def bits(*rows: str) -> torch.Tensor:
    return torch.tensor([[bit == "1" for bit in row] for row in rows])


def dense(module: nn.Module, *names: str) -> dict[str, torch.Tensor]:
    """A mask that keeps all of the named weights."""
    return {name: torch.ones_like(module.get_parameter(name), dtype=torch.bool) for name in names}


def cohort_of_one(masks: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: mask.unsqueeze(0) for name, mask in masks.items()}


def network_of(build: Callable[[], nn.Module], input_shape: tuple[int, ...], classes: int) -> Network:
    return describe(build, input_shape, classes, prunable_tensors(build(), input_shape, classes), "own")


def perceptron(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for position, (fan_in, fan_out) in enumerate(pairwise(widths)):
        layers += [nn.ReLU()] * (position > 0) + [nn.Linear(fan_in, fan_out)]
    return nn.Sequential(*layers)


def random_masks(module: nn.Module, density: float, seed: int) -> dict[str, torch.Tensor]:
    generator = stream(seed, "test")
    return {
        name: torch.rand(parameter.shape, generator=generator) < density
        for name, parameter in module.named_parameters()
        if parameter.ndim > 1
    }


# Hidden unit 0 has an input and an output, unit 1 no input, unit 2 no output.
FIRST, SECOND = bits("10", "00", "11"), bits("110", "010")


def test_a_2_3_2_network_by_hand() -> None:
    live = live_weights(perceptron(2, 3, 2), {"1.weight": FIRST, "3.weight": SECOND}, (2,))
    assert torch.equal(live["1.weight"], bits("10", "00", "00"))
    assert torch.equal(live["3.weight"], bits("100", "000"))


def test_the_table_of_a_2_3_2_network_by_hand() -> None:
    network = network_of(lambda: perceptron(2, 3, 2), (1, 1, 2), 2)
    masks = {
        "1.weight": torch.stack([FIRST, torch.ones(3, 2, dtype=torch.bool)]),
        "3.weight": torch.stack([SECOND, torch.ones(2, 3, dtype=torch.bool)]),
    }
    table = layer_table(network, masks, (1, 1, 2), "toy-0123456789", Unit("ticket", 0, 4, (3, 7)))

    assert table.schema.equals(LAYERS, check_metadata=True)
    same = {"experiment_id": "toy-0123456789", "arm": "ticket", "draw": 0, "level": 4, "total": 6}
    names = ("seed", "tensor", "remaining", "density", "effective", "effective_density", "units", "dead_units", "flops")
    assert table.to_pylist() == [
        {**same, **dict(zip(names, row, strict=True))}
        for row in (
            (3, "1.weight", 3, 1 / 2, 1, 1 / 6, 3, 2, 6),
            (3, "3.weight", 3, 1 / 2, 1, 1 / 6, 2, 1, 6),
            (7, "1.weight", 6, 1.0, 6, 1.0, 3, 0, 12),
            (7, "3.weight", 6, 1.0, 6, 1.0, 2, 0, 12),
        )
    ]


@given(st.lists(st.integers(1, 6), min_size=2, max_size=6), st.sampled_from([0.1, 0.3, 0.6]), st.integers(0, 10**6))
def test_perceptrons_agree_with_counted_paths(widths: list[int], density: float, seed: int) -> None:
    module = perceptron(*widths)
    masks = random_masks(module, density, seed)
    live = live_weights(module, masks, (widths[0],))

    counts = [mask.long().numpy() for mask in masks.values()]  # [out, in], exact integers
    for position, (name, mask) in enumerate(masks.items()):
        into = np.ones(widths[0], dtype=np.int64)  # paths from any input to each unit
        for matrix in counts[:position]:
            into = matrix @ into
        onward = np.ones(widths[-1], dtype=np.int64)  # paths from each unit to any output
        for matrix in reversed(counts[position + 1 :]):
            onward = matrix.T @ onward
        assert np.array_equal(live[name].numpy(), mask.numpy() & (np.outer(onward, into) > 0))


@given(st.integers(0, 10**6))
def test_dead_weights_change_no_output_and_live_ones_do(seed: int) -> None:
    module = perceptron(4, 5, 5, 3)
    masks = random_masks(module, 0.3, seed)
    live = live_weights(module, masks, (4,))
    generator = stream(seed, "weights")
    weights = {name: torch.rand(mask.shape, generator=generator, dtype=torch.float64) for name, mask in masks.items()}
    images = torch.rand(8, 4, generator=generator, dtype=torch.float64)

    def outputs(kept: dict[str, torch.Tensor]) -> torch.Tensor:
        zeros = {
            name: torch.zeros_like(parameter, dtype=torch.float64)
            for name, parameter in module.named_parameters()
            if parameter.ndim == 1
        }
        return functional_call(module, {**zeros, **{name: weights[name] * kept[name] for name in kept}}, (images,))

    everything = outputs(masks)
    torch.testing.assert_close(outputs(live), everything, rtol=1e-12, atol=0)
    for name, mask in live.items():
        for place in mask.nonzero().tolist():
            without = {**live, name: mask.clone()}
            without[name][tuple(place)] = False
            assert bool((outputs(without) < everything).any())


def test_a_filter_whose_readers_are_all_pruned_is_dead_with_all_that_feeds_it() -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    masks = dense(module, "0.weight", "2.weight", "5.weight")
    masks["2.weight"][:, 1] = False  # nobody reads filter 1 of the first layer
    masks["5.weight"][:, :16] = False  # nobody reads filter 0 of the second layer, 4x4 positions of it
    table = layer_table(
        network_of(lambda: module, (1, 8, 8), 2), cohort_of_one(masks), (1, 8, 8), "x", Unit("ticket", 0, 1, (0,))
    )
    found = {
        row["tensor"]: (row["remaining"], row["effective"], row["units"], row["dead_units"], row["flops"])
        for row in table.to_pylist()
    }
    assert found == {
        "0.weight": (27, 18, 3, 1, 2 * 27 * 6 * 6),
        "2.weight": (36, 18, 2, 1, 2 * 36 * 4 * 4),
        "5.weight": (32, 32, 2, 0, 2 * 32),
    }


def test_taps_that_see_only_padding_are_dead() -> None:
    module = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Flatten(), nn.Linear(1, 2))
    live = live_weights(module, dense(module, "0.weight", "2.weight"), (1, 1, 1))
    assert live["0.weight"].nonzero().tolist() == [[0, 0, 1, 1]]


class Pooling(nn.Module):
    """3x3 convolution on 2x2 positions, each of which sees other taps, and a maximum over them."""

    def __init__(self, pool: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.pool, self.out = nn.Conv2d(1, 1, 3, padding=1), pool, nn.Linear(1, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.out(self.pool(self.conv(images).relu_()).flatten(1))


@pytest.mark.parametrize("pool", [
    nn.MaxPool2d(2), nn.AdaptiveMaxPool2d(1), nn.AvgPool2d(2), lambda maps: maps.mean((2, 3)),
    lambda maps: functional.max_pool2d(maps, (2, 2), stride=2),
    lambda maps: functional.adaptive_max_pool2d(maps, output_size=(1, 1)),
    lambda maps: functional.max_pool1d(functional.max_pool1d(maps.flatten(2), 2), 2),
])  # fmt: skip
def test_any_position_can_win_a_max_pooling(pool: Callable[[torch.Tensor], torch.Tensor]) -> None:
    module = Pooling(pool)
    assert bool(live_weights(module, dense(module, "conv.weight", "out.weight"), (1, 2, 2))["conv.weight"].all())


class Residual(nn.Module):
    """stem -> [x + second(first(x))] -> head, with batch norm in the branch, activations and sum in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(2, 2), nn.Linear(2, 2)
        self.first, self.norm, self.second = nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        shortcut = functional.relu(self.stem(images.flatten(1)))
        branch = functional.relu(self.norm(self.first(shortcut)), inplace=True)
        branch = functional.relu(self.second(branch))
        branch += shortcut
        return self.head(torch.relu_(branch))


def test_a_path_survives_through_the_shortcut() -> None:
    module = Residual()
    masks = dense(module, "stem.weight", "first.weight", "second.weight", "head.weight")
    masks["second.weight"][:] = False
    live = live_weights(module, masks, (1, 1, 2))
    assert {name: int(mask.sum()) for name, mask in live.items()} == {
        "stem.weight": 4,
        "first.weight": 0,
        "second.weight": 0,
        "head.weight": 4,
    }

    masks["stem.weight"][1] = False  # now unit 1 lives by the branch, or not at all
    masks["second.weight"] = bits("00", "01")
    masks["first.weight"] = bits("11", "10")
    live = live_weights(module, masks, (1, 1, 2))
    assert torch.equal(live["first.weight"], bits("00", "10"))
    assert torch.equal(live["second.weight"], masks["second.weight"])
    assert torch.equal(live["head.weight"], masks["head.weight"])
    masks["first.weight"] = bits("11", "01")
    live = live_weights(module, masks, (1, 1, 2))
    assert int(live["first.weight"].sum() + live["second.weight"].sum()) == 0
    assert torch.equal(live["head.weight"], bits("10", "10"))


class AddsInPlace(Residual):
    """Adds to an activation in place, and then goes on using what was activated."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        stem = self.stem(images.flatten(1))
        activated = functional.relu(stem)
        activated += self.first(stem)
        return self.head(stem)


def test_adding_to_an_activation_in_place_does_not_touch_its_input() -> None:
    module = AddsInPlace()
    masks = dense(module, "stem.weight", "first.weight", "head.weight")
    masks["stem.weight"][1] = False
    live = live_weights(module, masks, (1, 1, 2))
    assert torch.equal(live["head.weight"], bits("10", "10"))
    assert int(live["first.weight"].sum()) == 0  # nobody reads the sum


@pytest.mark.parametrize(("width", "depth", "density"), [(256, 60, 1.0), (64, 60, 0.02), (40, 400, 0.08)])
def test_deep_networks_neither_overflow_nor_vanish(width: int, depth: int, density: float) -> None:
    module = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(depth)))
    masks = random_masks(module, density, 5)
    for mask in masks.values():  # one thin path, width**-depth of all paths, and a unit that goes nowhere
        mask[0], mask[:, 0] = False, False
        mask[0, 0] = True
    masks[f"{depth - 1}.weight"][1] = False
    live = live_weights(module, masks, (width,))

    into, onward = [np.ones(width, dtype=bool)], [np.ones(width, dtype=bool)]
    arrays = [mask.numpy() for mask in masks.values()]
    for mask in arrays:
        into.append((mask & into[-1]).any(1))
    for mask in reversed(arrays):
        onward.append((mask.T & onward[-1]).any(1))
    for position, name in enumerate(masks):
        expected = arrays[position] & into[position] & onward[depth - 1 - position][:, None]
        assert np.array_equal(live[name].numpy(), expected)
        assert bool(live[name][0, 0])


NORMS: list[Callable[[], nn.Module]] = [
    nn.Identity,
    lambda: nn.BatchNorm2d(6),
    lambda: nn.BatchNorm2d(6, affine=False, track_running_stats=False),
    lambda: nn.GroupNorm(2, 6),
    lambda: nn.LayerNorm([6, 4, 4]),
    lambda: nn.InstanceNorm2d(6, affine=True),
    lambda: nn.LocalResponseNorm(3),
    lambda: nn.RMSNorm([6, 4, 4]),
]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Hardswish, nn.LogSoftmax])
def test_norms_activations_and_dropout_close_no_path(
    norm: Callable[[], nn.Module], activation: Callable[[], nn.Module]
) -> None:
    def build(norm: Callable[[], nn.Module], activation: Callable[[], nn.Module]) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(2, 6, 3),
            norm(),
            activation(),
            nn.Dropout(0.5),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 12),
            nn.Softmax(1),
            nn.Linear(12, 3),
            activation(),
        )

    plain, module = build(nn.Identity, nn.Identity), build(norm, activation)
    dead = 0
    for seed in range(3):
        masks = random_masks(plain, 0.2, seed)
        # Independent of the cuts to 0 and 1: SynFlow's |dR/dw w|, in a network shallow enough for float64.
        parameters = {name: mask.double().requires_grad_() for name, mask in masks.items()}
        biases = {
            name: torch.zeros_like(parameter, dtype=torch.float64)
            for name, parameter in plain.named_parameters()
            if parameter.ndim == 1
        }
        plain_linear = nn.Sequential(
            *[nn.Identity() if isinstance(layer, (nn.Dropout, nn.Softmax)) else layer for layer in plain]
        )
        flow = functional_call(plain_linear, {**parameters, **biases}, (torch.ones(1, 2, 6, 6, dtype=torch.float64),))
        gradients = torch.autograd.grad(flow.sum(), list(parameters.values()))
        expected = {name: gradient * parameters[name] > 0 for name, gradient in zip(masks, gradients, strict=True)}
        live = live_weights(module, masks, (2, 6, 6))
        assert all(torch.equal(live[name], expected[name]) for name in masks)
        assert int(live["0.weight"].sum()) > 0
        dead += sum(int((masks[name] & ~live[name]).sum()) for name in masks)
    assert dead > 0


def test_other_layers_count_as_kept_and_the_module_is_left_as_it_was() -> None:
    module = build_model("conv2", (1, 8, 8), 10, {}).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    live = live_weights(module, dense(module, "0.weight"), (1, 8, 8))
    assert list(live) == ["0.weight"] and bool(live["0.weight"].all())
    assert module.training and all(layer.training for layer in module.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_units_of_a_transposed_convolution_are_its_outputs() -> None:
    def build() -> nn.Sequential:
        return nn.Sequential(nn.ConvTranspose2d(4, 6, 2, groups=2), nn.Flatten(), nn.Linear(24, 2))

    masks = dense(build(), "0.weight", "2.weight")  # [4, 6 / 2, 2, 2] and [2, 6 * 2 * 2]
    masks["0.weight"][2:, 1] = False  # output 1 of the second group
    table = layer_table(
        network_of(build, (4, 1, 1), 2), cohort_of_one(masks), (4, 1, 1), "x", Unit("ticket", 0, 1, (0,))
    )
    assert table["units"].to_pylist() == [6, 2]
    assert table["dead_units"].to_pylist() == [1, 0]
    assert table["effective"].to_pylist() == [40, 40]  # 48 less 2 x 4, and 48 less the 2 x 4 that read output 4


class Attention(nn.Module):
    """Each row of an image is a token; the mean of what attention makes of them is classified."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(width, width), nn.Linear(width, 2)
        self.layers = nn.ModuleList(nn.MultiheadAttention(width, 2, batch_first=True) for _ in range(24))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(images.flatten(1, 2))
        for layer in self.layers:
            tokens = tokens + layer(tokens, tokens, tokens, need_weights=False)[0]
        return self.out(tokens.mean(1))


def test_layers_around_attention_keep_their_paths() -> None:
    module = Attention(32)
    masks = random_masks(module, 0.3, 1)
    masks = {name: masks[name] for name in ("embed.weight", "out.weight")}
    masks["out.weight"][:, 5] = False  # attention mixes all units: nothing before it dies of that
    live = live_weights(module, masks, (1, 3, 32))
    assert all(torch.equal(live[name], masks[name]) for name in masks)


class Excess(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * 1e30 * 1e30


def test_what_cannot_be_known_is_refused_in_one_line() -> None:
    overflowing = nn.Sequential(nn.Linear(2, 2), Excess(), nn.Linear(2, 2))
    with pytest.raises(LthError, match="one of its operations overflows"):  # 0 x infinity
        live_weights(overflowing, {"2.weight": bits("10", "01")}, (2,))

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory, self.out = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.out(self.memory(images.flatten(1, 2))[0][:, -1])

    with pytest.raises(LthError, match=r"recurrent layer \(lstm\) are unknown"):
        live_weights(Recurrent(), {"out.weight": torch.ones(2, 3, dtype=torch.bool)}, (1, 4, 4))


def test_masks_that_do_not_fit_are_refused_in_one_line() -> None:
    module = perceptron(2, 3, 2)
    with pytest.raises(LthError, match=r"mask of '1\.weight' that is torch.bool \[2, 3\] does not fit"):
        live_weights(module, {"1.weight": SECOND}, (2,))
    with pytest.raises(LthError, match="torch.float32"):
        live_weights(module, {"1.weight": FIRST.float()}, (2,))
    network = network_of(lambda: module, (1, 1, 2), 2)
    with pytest.raises(LthError, match="needs a mask for each of the 2 seeds of ticket-L01-s0-1-.*; got 1"):
        layer_table(network, {"1.weight": FIRST.unsqueeze(0)}, (1, 1, 2), "x", Unit("ticket", 0, 1, (0, 1)))
