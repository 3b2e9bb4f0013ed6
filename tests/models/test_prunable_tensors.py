"""What can be pruned is found by running the module: order, kind, output layer, shared weights, overrides."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lth.errors import InvalidExperiment
from lth.models import build_model, prunable_tensors

SHAPE = (1, 2, 2)  # flat: 4


class Backwards(nn.Module):
    """Declares its layers in the reverse of the order in which it runs them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)
        self.norm = nn.BatchNorm1d(6)
        self.middle = nn.Linear(8, 6)
        self.scale = nn.Parameter(torch.ones(6))
        self.first = nn.Conv2d(1, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.middle(self.first(x).flatten(1))) * self.scale)


class Declared(nn.Module):
    """Layers `a`, `b`, `c` of width 4, run in the order of a text; `tied` gives b the weight of a."""

    def __init__(self, order: str, tied: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        if tied:
            self.b.weight = self.a.weight
        self.order = order

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        for name in self.order:
            x = getattr(self, name)(x)
        return x


def found(module: nn.Module, classes: int = 4, **overrides: object) -> list[tuple[str, str, bool]]:
    tensors = prunable_tensors(module, SHAPE, classes, **overrides)  # type: ignore[arg-type]
    return [(tensor.name, tensor.kind, tensor.output) for tensor in tensors]


def test_tensors_come_in_the_order_of_execution() -> None:
    assert found(Backwards(), 3) == [
        ("first.weight", "conv", False),
        ("middle.weight", "dense", False),
        ("head.weight", "dense", True),
    ]
    assert [tensor.shape for tensor in prunable_tensors(Backwards(), SHAPE, 3)] == [(2, 1, 1, 1), (6, 8), (3, 6)]


def test_biases_norms_and_other_parameters_are_never_pruned() -> None:
    names = {name for name, _, _ in found(Backwards(), 3)}

    assert not names & {"head.bias", "norm.weight", "norm.bias", "middle.bias", "scale", "first.bias"}


def test_the_output_layer_is_the_last_to_run() -> None:
    assert found(Declared("cab")) == [
        ("c.weight", "dense", False),
        ("a.weight", "dense", False),
        ("b.weight", "dense", True),
    ]
    # Also where it ran before.
    assert found(Declared("abca")) == [
        ("a.weight", "dense", True),
        ("b.weight", "dense", False),
        ("c.weight", "dense", False),
    ]


def test_a_layer_that_does_not_run_is_not_pruned() -> None:
    assert found(Declared("ab")) == [("a.weight", "dense", False), ("b.weight", "dense", True)]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("abc", [("a.weight", False), ("c.weight", True)]),
        ("bc", [("a.weight", False), ("c.weight", True)]),
        ("cb", [("c.weight", False), ("a.weight", True)]),
    ],
)
def test_a_shared_weight_is_one_tensor_whichever_layer_runs_it(order: str, expected: list[tuple[str, bool]]) -> None:
    assert [(name, output) for name, _, output in found(Declared(order, tied=True))] == expected


def test_a_module_that_is_a_layer_itself() -> None:
    class Head(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.flatten(1))

    assert found(Head(4, 3), 3) == [("weight", "dense", True)]


@pytest.mark.parametrize("layer", [nn.ConvTranspose2d(1, 2, 1), nn.Conv2d(1, 2, 1)])
def test_convolutions_of_both_directions(layer: nn.Module) -> None:
    assert found(nn.Sequential(layer, nn.Flatten(), nn.Linear(8, 3)), 3) == [
        ("0.weight", "conv", False),
        ("2.weight", "dense", True),
    ]


def test_overrides() -> None:
    assert found(Declared("abc"), output_layer="a.weight") == [
        ("a.weight", "dense", True),
        ("b.weight", "dense", False),
        ("c.weight", "dense", False),
    ]
    # Named in any order and twice: still the order of execution, each once.
    assert found(Declared("cba"), prunable=["a.weight", "c.weight", "a.weight"]) == [
        ("c.weight", "dense", False),
        ("a.weight", "dense", True),
    ]
    # The output layer need not be prunable; then no tensor is pruned at the output layer's rate.
    assert found(Declared("abc"), prunable=["a.weight"]) == [("a.weight", "dense", False)]


def test_a_weight_matrix_outside_of_any_layer_is_found_and_can_be_named() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filters = nn.Parameter(torch.ones(2, 1, 2, 2))
            self.matrix = nn.Parameter(torch.ones(3, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.conv2d(x, self.filters).flatten(1) @ self.matrix.T

    assert found(Own(), 3) == [("filters", "conv", False), ("matrix", "dense", True)]
    assert found(Own(), 3, prunable=["filters", "matrix"], output_layer="filters") == [
        ("filters", "conv", True),
        ("matrix", "dense", False),
    ]


def test_a_network_that_multiplies_by_no_parameter_is_refused() -> None:
    class Shift(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.ones(1, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1) + self.shift

    with pytest.raises(InvalidExperiment, match=r"no dense or convolutional layer to prune; .*model\.prunable"):
        prunable_tensors(Shift(), SHAPE, 4)


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ({"prunable": ["z.weight"]}, ["'z.weight'", "a.weight, a.bias"]),
        ({"output_layer": "z.weight"}, ["'z.weight'", "a.weight, a.bias"]),
        ({"output_layer": ""}, ["''", "a.weight, a.bias"]),
        ({"prunable": ["a.bias"]}, ["'a.bias'", "(4,)", "never biases"]),
        ({"prunable": []}, ["model.prunable"]),
    ],
)
def test_wrong_overrides_are_refused_by_name(overrides: dict[str, object], wanted: list[str]) -> None:
    with pytest.raises(InvalidExperiment) as caught:
        found(Declared("abc"), **overrides)

    assert "\n" not in str(caught.value)
    assert [part for part in wanted if part not in str(caught.value)] == []


class Answering(nn.Module):
    """Answers with whatever it is given to answer with, or raises it."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.answer = answer

    def forward(self, x: torch.Tensor) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (torch.zeros(2, 5), ["(2, 5)", "(2, 4)", "one logit per class"]),
        (torch.zeros(2), ["(2,)", "(2, 4)"]),
        (torch.zeros(2, 4, 1), ["(2, 4, 1)", "(2, 4)"]),
        ((torch.zeros(2, 4), 1), ["tuple", "(2, 4)"]),
        (None, ["NoneType", "(2, 4)"]),
        (RuntimeError("first line\nsecond line"), ["(1, 2, 2)", "RuntimeError: first line"]),
        (AssertionError(), ["(1, 2, 2)", "AssertionError"]),
    ],
)
def test_a_network_that_gives_no_logits_is_refused_in_one_line(answer: object, wanted: list[str]) -> None:
    with pytest.raises(InvalidExperiment) as caught:
        prunable_tensors(Answering(answer), SHAPE, 4)

    assert "\n" not in str(caught.value)
    assert [part for part in wanted if part not in str(caught.value)] == []


def test_looking_leaves_the_module_as_it_was() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 3))
    module.train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    generator = torch.get_rng_state()

    prunable_tensors(module, SHAPE, 3)

    assert module.training
    assert module[3].training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    assert not module[1]._forward_hooks


def positions(module: nn.Module, shape: tuple[int, ...], classes: int, **overrides: object) -> dict[str, int]:
    tensors = prunable_tensors(module, shape, classes, **overrides)  # type: ignore[arg-type]
    return {tensor.name: tensor.positions for tensor in tensors}


def test_a_convolution_is_applied_at_every_position_of_its_output() -> None:
    assert list(positions(build_model("conv2", (3, 32, 32), 10), (3, 32, 32), 10).values()) == [1024, 1024, 1, 1, 1]
    strided = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1),  # 9x7 -> 5x4
        nn.Conv2d(4, 6, 2, groups=2),  # -> 4x3
        nn.Conv2d(6, 2, 3, dilation=2, padding=1),  # -> 2x1
        nn.Flatten(1, 2),
        nn.Conv1d(4, 3, 1),
        nn.Flatten(),
        nn.Linear(3, 2),
    )
    assert list(positions(strided, (1, 9, 7), 2).values()) == [20, 12, 2, 1, 1]


def test_a_transposed_convolution_is_applied_at_every_position_of_its_input() -> None:
    class ByName(nn.ConvTranspose2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(input)

    class Upwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.ConvTranspose2d(1, 3, 2, stride=2), ByName(3, 5, 3)
            self.head = nn.Linear(5 * 8 * 10, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.second(input=self.first(x)).flatten(1))

    # 3x4 -> 6x8 -> 8x10
    assert positions(Upwards(), (1, 3, 4), 2) == {"first.weight": 12, "second.weight": 48, "head.weight": 1}


def test_a_dense_layer_is_applied_at_every_position_of_a_sequence_and_at_every_run() -> None:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows, self.rounds, self.head = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)
            self.tied = nn.Linear(5, 5)
            self.tied.weight = self.rounds.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.rows(x)  # [batch, 2, 6, 4]: two rows of six
            for _ in range(3):
                x = self.rounds(x.flatten(1, 2))[:, :7].unsqueeze(1)  # of 12 positions, then of 7, then of 7
            return self.head(self.tied(x.flatten(0, 2)).view(len(x), -1, 5).sum(1))  # 7 more, as one long batch

    found = positions(Sequence(), (2, 6, 4), 3)
    assert found == {"rows.weight": 12, "rounds.weight": 12 + 7 + 7 + 7, "head.weight": 1}


def test_a_tensor_that_no_layer_runs_counts_once() -> None:
    assert positions(Declared("ab"), SHAPE, 4, prunable=["a.weight", "c.weight"]) == {"a.weight": 1, "c.weight": 1}
    assert positions(Declared("aaab"), SHAPE, 4) == {"a.weight": 3, "b.weight": 1}
