"""Densities of layers by published rules, counts that add up exactly, and the inner rounds of a level."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lth.errors import InvalidExperiment
from lth.models import PrunableTensor, build_model, prunable_tensors
from lth.pruning import between, ladder
from lth.pruning.allocation import counts, densities
from lth.pruning.scopes import scopes_of_one_density

SCOPES = sorted(set(scopes_of_one_density()) - {"global"})


def tensors_of(model: str, shape: tuple[int, int, int], **arguments: object) -> tuple[PrunableTensor, ...]:
    return prunable_tensors(build_model(model, shape, 10, arguments), shape, 10)


def dense(name: str, *shape: int, output: bool = False) -> PrunableTensor:
    return PrunableTensor(name, shape, "dense", output)


def conv(name: str, *shape: int) -> PrunableTensor:
    return PrunableTensor(name, shape, "conv", False)


def rounded(found: dict[str, Fraction]) -> list[float]:
    return [round(float(density), 4) for density in found.values()]


def test_erk_of_lenet_as_published() -> None:
    tensors = tensors_of("mlp", (1, 28, 28), hidden=[300, 100])

    assert rounded(densities(tensors, "erk", 26_620)) == [0.0796, 0.2302, 1.0]
    # By hand: the output is dense (1000), and e solves e (1084 + 400) = 25620 for the other two.
    assert counts(tensors, "erk", 26_620) == {"1.weight": 18_714, "3.weight": 6_906, "5.weight": 1_000}
    assert pytest.approx(18_714.34, abs=0.01) == 25_620 * 1084 / 1484


def resnet_stages(total: int) -> dict[tuple[int, ...], float]:
    """Densities by shape of ResNet-20 without weights in its shortcuts (He's option A)."""
    tensors = tensors_of("resnet20", (3, 32, 32), shortcut="padding")
    assert sum(tensor.size for tensor in tensors) == 268_336
    found = densities(tensors, "erk", total)
    return {tensor.shape: round(float(found[tensor.name]), 4) for tensor in tensors}


STAGES = ((16, 3, 3, 3), (16, 16, 3, 3), (32, 16, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3))


def test_erk_of_resnet20_as_published() -> None:
    """The published code rounds the ones of each layer up: at 10% that is 26,844 of 268,336 weights."""
    stages = resnet_stages(26_844)

    assert [stages[shape] for shape in STAGES] == [1.0, 0.3027, 0.2151, 0.1394, 0.1016, 0.0667]
    assert stages[10, 64] == 1.0


def test_erk_of_resnet20_at_a_tenth_of_its_weights_to_the_weight() -> None:
    """10% exactly, 26,834: first convolution and output dense (1,072), e = 25,762 / 1,404 for the others."""
    stages = resnet_stages(26_834)
    e = (26_834 - 432 - 640) / (6 * 38 + 54 + 5 * 70 + 102 + 5 * 134)

    expected = [1.0, *(round(e * sum(shape) / (shape[0] * shape[1] * 9), 4) for shape in STAGES[1:])]
    assert [stages[shape] for shape in STAGES] == expected == [1.0, 0.3026, 0.215, 0.1394, 0.1015, 0.0667]


def test_projection_shortcuts_take_part() -> None:
    """With 1x1 convolutions in the shortcuts the first convolution is not full at 10%, the smaller shortcut is."""
    tensors = tensors_of("resnet20", (3, 32, 32), shortcut="projection")
    found = densities(tensors, "erk", 27_090)
    by_shape = {tensor.shape: float(found[tensor.name]) for tensor in tensors}

    assert by_shape[32, 16, 1, 1] == 1.0
    assert by_shape[64, 32, 1, 1] == pytest.approx(by_shape[16, 3, 3, 3] * (98 / 2048) / (25 / 432))
    assert 0.9 < by_shape[16, 3, 3, 3] < 1.0


def test_uniform_is_one_density_everywhere() -> None:
    tensors = (dense("a", 30, 4), dense("b", 3, 30, output=True))

    assert densities(tensors, "uniform", 21) == {"a": Fraction(1, 10), "b": Fraction(1, 10)}
    assert counts(tensors, "uniform", 21) == {"a": 12, "b": 9}
    # 120 * 20 / 210 = 11.43, 90 * 20 / 210 = 8.57: the larger remainder gets the weight that is left over.
    assert counts(tensors, "uniform", 20) == {"a": 11, "b": 9}
    # 1.5 and 1.5: the first among equals.
    assert counts((dense("a", 5), dense("b", 5)), "uniform", 3) == {"a": 2, "b": 1}


CONVOLUTIONAL = (conv("first", 16, 3, 3, 3), conv("second", 16, 16, 3, 3), dense("output", 10, 64, output=True))


def test_uniform_plus_keeps_the_first_convolution_and_a_fifth_of_the_output() -> None:
    """432, 2304 and 640 weights, by hand."""
    found = densities(CONVOLUTIONAL, "uniform_plus", 800)
    assert found == {"first": 1, "second": Fraction(800 - 432 - 128, 2304), "output": Fraction(1, 5)}
    # Above a fifth the output is like all others.
    found = densities(CONVOLUTIONAL, "uniform_plus", 432 + 1472)
    assert found == {"first": 1, "second": Fraction(1, 2), "output": Fraction(1, 2)}
    # A first dense layer is no convolution.
    tensors = (dense("a", 10, 100), dense("b", 10, 10, output=True))
    assert densities(tensors, "uniform_plus", 110) == {"a": Fraction(9, 100), "b": Fraction(1, 5)}


@pytest.mark.parametrize("total", [1100, 1013, 900, 676, 600])
def test_the_output_keeps_a_fifth_where_the_whole_network_has_more_than_that(total: int) -> None:
    """At 30% of 3,376 weights a dense first convolution leaves 19.7% for the others; the output still keeps 20%."""
    found = densities(CONVOLUTIONAL, "uniform_plus", total)

    assert found["first"] == 1
    assert found["output"] == max(Fraction(1, 5), Fraction(total - 432, 2944))
    assert sum(density * tensor.size for density, tensor in zip(found.values(), CONVOLUTIONAL, strict=True)) == total


def test_smart_ratio_by_hand() -> None:
    """Three layers before the classifier: 3^2 + 3, 2^2 + 2, 1^2 + 1 = 12 : 6 : 2, the classifier at 0.3."""
    tensors = (dense("a", 10, 10), dense("b", 20, 10), dense("c", 30, 10), dense("d", 10, 30, output=True))
    # 300 * 0.3 = 90 for the classifier; e (12 * 100 + 6 * 200 + 2 * 300) = 3000 e is the rest.
    found = densities(tensors, "smart_ratio", 90 + 150)

    assert found == {"a": Fraction(12, 20), "b": Fraction(6, 20), "c": Fraction(2, 20), "d": Fraction(3, 10)}
    assert counts(tensors, "smart_ratio", 240) == {"a": 60, "b": 60, "c": 30, "d": 90}
    # A layer that would pass 1 is dense, and the others share what is left, still 6 : 2.
    found = densities(tensors, "smart_ratio", 90 + 100 + 180)
    assert found == {"a": 1, "b": Fraction(6 * 180, 1800), "c": Fraction(2 * 180, 1800), "d": Fraction(3, 10)}


shapes = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 16), st.integers(1, 16), st.just(3), st.just(3)),
)


@st.composite
def networks(draw: st.DrawFn) -> tuple[PrunableTensor, ...]:
    drawn = draw(st.lists(shapes, min_size=1, max_size=7))
    return tuple(
        PrunableTensor(f"{position}.weight", shape, "conv" if len(shape) == 4 else "dense", position == len(drawn) - 1)
        for position, shape in enumerate(drawn)
    )


@given(networks(), st.sampled_from(SCOPES), st.data())
def test_counts_add_up_and_stay_within_their_layers(
    tensors: tuple[PrunableTensor, ...], scope: str, data: st.DataObject
) -> None:
    total = data.draw(st.integers(0, sum(tensor.size for tensor in tensors)))
    try:
        found = counts(tensors, scope, total)
    except InvalidExperiment as error:
        assert scope in ("uniform_plus", "smart_ratio")  # the only ones that fix a layer whatever the total
        assert scope in str(error) and f"{total} weights" in str(error) and "\n" not in str(error)
        return
    exact = densities(tensors, scope, total)

    assert list(found) == [tensor.name for tensor in tensors]
    assert sum(found.values()) == total
    for tensor in tensors:
        assert 0 <= found[tensor.name] <= tensor.size
        assert abs(found[tensor.name] - exact[tensor.name] * tensor.size) < 1


@given(networks(), st.integers(1, 100))
def test_erk_is_in_proportion_to_its_ratios_up_to_full(tensors: tuple[PrunableTensor, ...], percent: int) -> None:
    """density_l = min(1, e r_l) with one e for all (Evci et al. 2020)."""
    total = max(1, sum(tensor.size for tensor in tensors) * percent // 100)
    found = densities(tensors, "erk", total)
    ratio = {tensor.name: Fraction(sum(tensor.shape), tensor.size) for tensor in tensors}
    scales = {found[name] / ratio[name] for name in found if found[name] < 1}

    assert len(scales) <= 1
    for scale in scales:
        assert all(scale * ratio[name] >= 1 for name in found if found[name] == 1)
    assert sum(found[tensor.name] * tensor.size for tensor in tensors) == total


@given(networks(), st.sampled_from(SCOPES), st.sampled_from(["0.01", "0.05", "0.2", "0.5"]))
@settings(max_examples=300)
def test_no_layer_gains_weights_from_level_to_level(
    tensors: tuple[PrunableTensor, ...], scope: str, fraction: str
) -> None:
    """A pruned weight never returns, so no count may rise; shares rounded anew at each level would do that."""
    try:
        levels = ladder(tensors, [Fraction(fraction)] * len(tensors), 15, scope, allow_empty=True)
    except InvalidExperiment:
        return  # the scope cannot have these densities; see below
    for before, after in zip(levels, levels[1:], strict=False):
        assert all(after[name] <= before[name] for name in before), (before, after)
    totals = [sum(level.values()) for level in levels]
    assert all(
        second == first - round(Fraction(fraction) * first) for first, second in zip(totals, totals[1:], strict=False)
    )
    # A sweep that is extended later has the same levels.
    assert ladder(tensors, [Fraction(fraction)] * len(tensors), 6, scope, allow_empty=True) == levels[:7]


def test_a_convolutional_ladder_falls_through_the_output_that_keeps_a_fifth() -> None:
    """At 20% of all weights the others are at 8%; the output comes down to its fifth and stays there."""
    levels = ladder(CONVOLUTIONAL, [Fraction(1, 5)] * 3, 4, "uniform_plus", (0.4, 0.3, 0.2, 0.19))

    assert [level["output"] for level in levels] == [640, 200, 128, 128, 128]
    assert [level["first"] for level in levels] == [432] * 5
    assert [sum(level.values()) for level in levels] == [3376, 1350, 1013, 675, 641]


def test_the_layers_that_are_shared_out_and_those_left_alone() -> None:
    tensors = (*CONVOLUTIONAL[:2], dense("output", 10, 64, output=True))
    levels = ladder(tensors, [Fraction(1, 5), Fraction(1, 5), Fraction(0)], 1, "uniform", (0.5,))

    assert levels == [{"output": 640, "first": 432, "second": 2304}, {"output": 640, "first": 216, "second": 1152}]


@pytest.mark.parametrize(
    ("tensors", "scope", "total", "wanted"),
    [
        (CONVOLUTIONAL, "uniform_plus", 500, ["'uniform_plus'", "first at 1, output at 0.2", "500 weights"]),
        (CONVOLUTIONAL, "smart_ratio", 100, ["'smart_ratio'", "output at 0.3", "100 weights"]),
        # 99% of all weights do not fit where the classifier keeps 0.3 of its 640.
        (CONVOLUTIONAL, "smart_ratio", 3342, ["'smart_ratio'", "output at 0.3", "3342 weights"]),
    ],
)
def test_a_density_that_a_scope_cannot_have_is_refused_with_the_remedy(
    tensors: tuple[PrunableTensor, ...], scope: str, total: int, wanted: list[str]
) -> None:
    with pytest.raises(InvalidExperiment) as caught:
        counts(tensors, scope, total)
    text = str(caught.value)
    assert "\n" not in text
    assert [part for part in [*wanted, "choose another density or another scope"] if part not in text] == []


def test_a_layer_that_its_share_leaves_empty_is_named_with_its_level() -> None:
    tensors = (dense("wide", 300, 784), dense("thin", 1, 20), dense("out", 10, 300, output=True))
    with pytest.raises(
        InvalidExperiment,
        match=r"^level 2 would leave layer 'thin' empty \(of 20 weights\); use at "
        r"most 1 levels, prune less, or set pruning\.allow_empty_layers$",
    ):
        ladder(tensors, [Fraction(1, 5)] * 3, 2, "uniform", (0.1, 0.01))
    assert ladder(tensors, [Fraction(1, 5)] * 3, 2, "uniform", (0.1, 0.01), allow_empty=True)[2]["thin"] == 0


def test_inner_rounds_are_an_exponential_ladder() -> None:
    """n (k / n)^(r / R): from 1000 to 10 in 4 rounds, 316.2, 100, 31.6."""
    assert between({"": 1000}, {"": 10}, 4) == [{"": 316}, {"": 100}, {"": 32}, {"": 10}]
    assert between({"": 1000}, {"": 10}, 1) == [{"": 10}]
    # Each by itself, those that are left alone are.
    assert between({"a": 100, "b": 64, "c": 5}, {"a": 1, "b": 16, "c": 5}, 2) == [
        {"a": 10, "b": 32, "c": 5},
        {"a": 1, "b": 16, "c": 5},
    ]
    # The densities of Tanaka et al. (2020): rho^(r / 100).
    steps = between({"": 10_000_000}, {"": 10_000}, 100)
    assert [step[""] for step in steps] == [round(10_000_000 * 0.001 ** (number / 100)) for number in range(1, 101)]


@given(st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**8)), min_size=1, max_size=4), st.integers(1, 120))
def test_inner_rounds_end_exactly_and_never_give_back(pairs: list[tuple[int, int]], rounds: int) -> None:
    before = {str(position): max(pair) for position, pair in enumerate(pairs)}
    after = {str(position): min(pair) for position, pair in enumerate(pairs)}
    steps = between(before, after, rounds)

    assert len(steps) == rounds
    assert steps[-1] == after
    for earlier, later in zip([before, *steps], steps, strict=False):
        assert all(earlier[name] >= later[name] for name in before)
    # A layer that shall be empty is so in the last round only.
    assert all(step[name] >= 1 for step in steps[:-1] for name in before if before[name] >= 1)
