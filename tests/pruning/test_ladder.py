"""How many weights remain: the published ladders to the weight, exact rounding, layers that would be emptied."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lth.errors import InvalidExperiment
from lth.experiment import load_experiment
from lth.models import PrunableTensor, build_model, prunable_tensors
from lth.pruning import ladder, layer_fraction, remaining_per_level


def published(preset: str, levels: int | None = None) -> list[dict[str, int]]:
    experiment = load_experiment(preset)
    shape = {"mnist": (1, 28, 28), "digits": (1, 8, 8)}.get(experiment.dataset.name, (3, 32, 32))
    tensors = prunable_tensors(build_model(experiment.model.name, shape, 10, experiment.model.arguments), shape, 10)
    pruning = experiment.pruning
    fractions = [
        layer_fraction(tensor, pruning.fraction.dense, pruning.fraction.conv, pruning.output_factor)
        for tensor in tensors
    ]
    return ladder(tensors, fractions, levels or pruning.levels, pruning.scope)


def test_the_lenet_ladder_to_the_weight() -> None:
    counts = published("lenet-mnist")
    totals = [sum(level.values()) for level in counts]

    assert len(counts) == 21
    assert {level: totals[level] for level in (0, 1, 3, 7, 9, 15, 16, 19)} == {
        0: 266_200,
        1: 213_060,
        3: 136_511,
        7: 56_094,
        9: 35_981,
        15: 9_537,
        16: 7_650,
        19: 3_958,
    }
    assert list(counts[15].values()) == [8_275, 1_056, 206]
    assert list(counts[0]) == ["1.weight", "3.weight", "5.weight"]
    assert list(counts[1].values()) == [188_160, 24_000, 900]  # 20%, 20% and, at the output, 10%
    densities = [round(100 * total / 266_200, 2) for total in totals]
    assert [densities[level] for level in (3, 7, 9, 15, 16, 19)] == [51.28, 21.07, 13.52, 3.58, 2.87, 1.49]


@pytest.mark.parametrize(
    ("preset", "level", "percent"),
    [
        ("conv2-cifar10", 11, 8.81),
        ("conv2-cifar10", 14, 4.57),
        ("conv4-cifar10", 11, 11.06),
        ("conv4-cifar10", 12, 9.18),
        ("conv6-cifar10", 7, 26.61),
        ("conv6-cifar10", 10, 15.29),
    ],
)
def test_the_densities_of_the_conv_networks(preset: str, level: int, percent: float) -> None:
    counts = published(preset)

    assert round(100 * sum(counts[level].values()) / sum(counts[0].values()), 2) == percent


def test_the_digits_ladder_ends_near_two_percent() -> None:
    totals = [sum(level.values()) for level in published("digits")]

    assert totals[0] == 64 * 300 + 300 * 100 + 100 * 10
    assert len(totals) == 13
    assert 0.020 < totals[12] / totals[0] < 0.025


@pytest.mark.parametrize(
    ("size", "fraction", "removed"),
    [
        (45, 0.1, 4),
        (55, 0.1, 6),
        (15, 0.1, 2),
        (25, 0.1, 2),
        (35, 0.1, 4),
        (5, 0.1, 0),
        (5, 0.5, 2),
        (7, 0.5, 4),
        (10, 0.05, 0),
        (30, 0.05, 2),
        (1000, 0.0005, 0),
        (3000, 0.0005, 2),
        (100, 0.275, 28),
        (20, 0.275, 6),
        (60, 0.275, 16),
        # Floating point misses these halves: 60.50000000000001, 31.499999999999996, 10.500000000000002.
        (220, 0.275, 60),
        (90, 0.35, 32),
        (150, 0.07, 10),
    ],
)
def test_halves_go_to_the_even_number(size: int, fraction: float, removed: int) -> None:
    exact = layer_fraction(PrunableTensor("w", (size,), "dense", False), fraction, None, 0.5)

    assert remaining_per_level(size, exact, 1) == [size, size - removed]


@given(st.integers(1, 10**7), st.integers(1, 999), st.integers(0, 30))
def test_counts_are_those_of_decimal_arithmetic(size: int, thousandths: int, levels: int) -> None:
    """Against Python's decimal module, which rounds halves to even by itself."""
    p = thousandths / 1000  # as a person would write it
    fraction = layer_fraction(PrunableTensor("w", (size,), "dense", False), p, None, 0.5)
    expected = [size]
    for _ in range(levels):
        removed = (Decimal(thousandths) / 1000 * expected[-1]).to_integral_value(ROUND_HALF_EVEN)
        expected.append(expected[-1] - int(removed))

    assert remaining_per_level(size, fraction, levels) == expected


def test_the_fraction_of_a_tensor() -> None:
    dense, conv = (PrunableTensor("w", (4, 4), kind, False) for kind in ("dense", "conv"))  # type: ignore[arg-type]
    output = PrunableTensor("w", (4, 4), "dense", True)

    assert layer_fraction(dense, 0.2, 0.1, 0.5) == Fraction(1, 5)
    assert layer_fraction(conv, 0.2, 0.15, 0.5) == Fraction(3, 20)
    assert layer_fraction(output, 0.2, 0.1, 0.5) == Fraction(1, 10)
    assert layer_fraction(output, 0.2, 0.1, 0) == 0
    assert layer_fraction(dense, None, 0.1, 0.5) == 0
    assert layer_fraction(conv, 1e-05, 1e-05, 0.5) == Fraction(1, 100_000)


TENSORS = (
    PrunableTensor("first.weight", (30, 4), "dense", False),
    PrunableTensor("last.weight", (3, 30), "dense", True),
)


def test_layers_prune_by_themselves_or_compete() -> None:
    rates = [Fraction(1, 5), Fraction(1, 5)]

    assert ladder(TENSORS, rates, 2, "layer") == [
        {"first.weight": 120, "last.weight": 90},
        {"first.weight": 96, "last.weight": 72},
        {"first.weight": 77, "last.weight": 58},
    ]  # 19.2 -> 19, 14.4 -> 14 removed
    assert ladder(TENSORS, rates, 2, "global") == [{"": 210}, {"": 168}, {"": 134}]  # 33.6 -> 34 removed


def test_layers_that_are_never_pruned_do_not_compete() -> None:
    assert ladder(TENSORS, [Fraction(1, 5), Fraction(0)], 1, "global") == [
        {"last.weight": 90, "": 120},
        {"last.weight": 90, "": 96},
    ]
    assert ladder(TENSORS, [Fraction(0), Fraction(0)], 1, "global") == [{"first.weight": 120, "last.weight": 90}] * 2


def test_no_level_is_the_dense_network_alone() -> None:
    assert ladder(TENSORS, [Fraction(1, 5)] * 2, 0, "layer") == [{"first.weight": 120, "last.weight": 90}]


@pytest.mark.parametrize(
    ("size", "fraction", "empty_at"), [(3, "0.9", 1), (30, "0.9", 2), (300, "0.9", 3), (1, "0.6", 1)]
)
def test_a_layer_that_would_be_emptied_is_named_with_its_level(size: int, fraction: str, empty_at: int) -> None:
    tensors = (TENSORS[0], PrunableTensor("thin.weight", (size,), "dense", False))
    rates = [Fraction("0.1"), Fraction(fraction)]

    with pytest.raises(InvalidExperiment) as caught:
        ladder(tensors, rates, 5, "layer")
    assert str(caught.value) == (
        f"level {empty_at} would leave layer 'thin.weight' empty (of {size} weights); "
        f"use at most {empty_at - 1} levels, prune less, or set pruning.allow_empty_layers"
    )
    assert len(ladder(tensors, rates, empty_at - 1, "layer")) == empty_at  # the remedies work
    assert ladder(tensors, rates, 5, "layer", allow_empty=True)[empty_at]["thin.weight"] == 0


def test_a_global_competition_that_would_leave_nothing_is_refused_with_its_level() -> None:
    with pytest.raises(InvalidExperiment, match=r"^level 3 would leave all competing layers empty \(of 210 weights\)"):
        ladder(TENSORS, [Fraction("0.9")] * 2, 3, "global")  # 210 -> 21 -> 2 -> 0


def test_densities_instead_of_a_fraction_are_of_all_competing_layers_together() -> None:
    rates = [Fraction(1, 5), Fraction(1, 5)]

    assert ladder(TENSORS, rates, 2, "global", (0.5, 0.05)) == [{"": 210}, {"": 105}, {"": 10}]  # 10.5: half to even
    assert ladder(TENSORS, rates, 1, "global", (0.5, 0.05)) == [{"": 210}, {"": 105}]
    assert ladder(TENSORS, [Fraction(1, 5), Fraction(0)], 1, "global", (0.1,)) == [
        {"last.weight": 90, "": 120},
        {"last.weight": 90, "": 12},
    ]
    # In exact arithmetic of the digits: 0.35 * 90 is 31.5, in floating point 31.499999999999996.
    assert ladder(TENSORS, [Fraction(0), Fraction(1, 5)], 1, "global", (0.35,))[1] == {"first.weight": 120, "": 32}
    with pytest.raises(InvalidExperiment, match=r"^level 2 would leave all competing layers empty \(of 210 weights\)"):
        ladder(TENSORS, rates, 2, "global", (0.5, 0.001))
