"""Scores of units against hand-worked numbers, and who stays alive."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks_with_units import IMAGES, Sum, built, groups_of, small_convolutional, tensors_of

from lth.errors import InvalidExperiment
from lth.models import build_model
from lth.streams import stream
from lth.structured import Slices, UnitGroup, keep_units, unit_scores


def everything(groups: tuple[UnitGroup, ...], seeds: int = 1) -> list[torch.Tensor]:
    return [torch.ones(seeds, group.units, dtype=torch.bool) for group in groups]


def test_scores_of_dense_layers_by_hand() -> None:
    groups = groups_of(build_model("mlp", (1, 1, 2), 3, {"hidden": [2, 2]}), (1, 1, 2), 3)
    tensors = {
        "1.weight": torch.tensor([[[1.0, -2.0], [0.0, 4.0]], [[3.0, 3.0], [0.0, -1.0]]]),
        "3.weight": torch.tensor([[[3.0, -1.0], [2.0, 2.0]], [[0.0, 0.0], [-6.0, 8.0]]]),
        "1.bias": torch.full((2, 2), 100.0),
    }

    assert [s.tolist() for s in unit_scores(groups, everything(groups, 2), tensors, "l1")] == [
        [[1.5, 2.0], [3.0, 0.5]],
        [[2.0, 2.0], [0.0, 7.0]],
    ]
    l2 = unit_scores(groups, everything(groups, 2), tensors, "l2")
    np.testing.assert_allclose(l2[0], np.sqrt([[2.5, 8.0], [9.0, 0.5]]), rtol=1e-6)
    np.testing.assert_allclose(l2[1], np.sqrt([[5.0, 4.0], [0.0, 50.0]]), rtol=1e-6)
    # The first seed has lost the first unit of the first layer: the second layer has one column left to average over.
    alive = everything(groups, 2)
    alive[0][0, 0] = False
    assert [s.tolist() for s in unit_scores(groups, alive, tensors, "l1")] == [
        [[0.0, 2.0], [3.0, 0.5]],
        [[1.0, 2.0], [0.0, 7.0]],
    ]


def test_scores_of_summed_branches_by_hand() -> None:
    groups = groups_of(Sum(), (2, 1, 1), 2)
    tensors = {
        "left.weight": torch.tensor([[[1.0, 1.0], [0.0, 0.0], [2.0, -2.0]]]),
        "right.weight": torch.tensor([[[-3.0, 3.0], [1.0, 0.0], [0.0, 0.0]]]),
        "norm_left.weight": torch.tensor([[1.0, -0.5, 0.0]]),
        "norm_right.weight": torch.tensor([[2.0, 0.5, -1.0]]),
    }

    assert unit_scores(groups, everything(groups), tensors, "l1")[0].tolist() == [[2.0, 0.25, 1.0]]
    np.testing.assert_allclose(unit_scores(groups, everything(groups), tensors, "l2")[0], [np.sqrt([5.0, 0.25, 2.0])])
    assert unit_scores(groups, everything(groups), tensors, "bn_scale")[0].tolist() == [[1.5, 0.5, 0.5]]


def test_filters_are_ordered_as_by_their_sums_and_norms() -> None:
    groups = groups_of(small_convolutional(), IMAGES)
    tensors = {
        name: torch.randn(2, *tensor.shape, generator=stream(0, name))
        for name, tensor in tensors_of(small_convolutional()).items()
    }
    l1, l2 = (unit_scores(groups, everything(groups, 2), tensors, criterion) for criterion in ("l1", "l2"))

    for group, one, two in zip(groups, l1, l2, strict=True):
        filters = tensors[group.name].numpy().reshape(2, group.units, -1).astype(np.float64)
        np.testing.assert_allclose(one * filters.shape[2], np.abs(filters).sum(2), rtol=1e-6)
        np.testing.assert_allclose(two * np.sqrt(filters.shape[2]), np.linalg.norm(filters, axis=2), rtol=1e-6)


@pytest.mark.parametrize("criterion", ["l1", "l2", "bn_scale"])
def test_a_seed_scores_alone_as_in_its_cohort(criterion: str) -> None:
    module, shape = built("vgg11")
    groups = groups_of(module, shape)
    tensors = {
        name: torch.randn(5, *tensor.shape, generator=stream(1, name)) for name, tensor in tensors_of(module).items()
    }
    together = unit_scores(groups, everything(groups, 5), tensors, criterion)

    for seed in range(5):
        one = {name: tensor[seed : seed + 1] for name, tensor in tensors.items()}
        alone = unit_scores(groups, everything(groups), one, criterion)
        assert all(torch.equal(a[0], b[seed]) for a, b in zip(alone, together, strict=True))


def test_criteria_that_do_not_apply_are_named() -> None:
    groups = groups_of(small_convolutional(), IMAGES)
    tensors = {name: tensor[None] for name, tensor in tensors_of(small_convolutional()).items()}

    with pytest.raises(InvalidExperiment, match=r"bn_scale needs a batch norm on the units of '0\.weight'; use l1"):
        unit_scores(groups, everything(groups), tensors, "bn_scale")
    with pytest.raises(InvalidExperiment, match="'l3'.*bn_scale, l1, l2"):
        unit_scores(groups, everything(groups), tensors, "l3")


def group(name: str, units: int) -> UnitGroup:
    return UnitGroup(name, units, (Slices(name, 0, torch.arange(units)[:, None]),), (), (), ())


def test_the_best_of_each_group_by_hand() -> None:
    groups = (group("a", 3), group("b", 2), group("c", 4))
    scores = [torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[0.1, 0.2]]), torch.tensor([[9.0, 8.0, 7.0, 6.0]])]
    alive = everything(groups)
    alive[2][0, 0] = False

    by_group = keep_units(groups, scores, alive, {"a": 2, "b": 1, "c": 2})
    assert [kept.tolist() for kept in by_group] == [
        [[True, False, True]],
        [[False, True]],
        [[False, True, True, False]],
    ]
    # One competition for 4 places: the best of a, b and c stay, and 7 beats everything else.
    together = keep_units(groups, scores, alive, {"": 4})
    assert [kept.tolist() for kept in together] == [
        [[True, False, False]],
        [[False, True]],
        [[False, True, True, False]],
    ]
    # c has its own count; a and b compete for 3 places.
    mixed = keep_units(groups, scores, alive, {"c": 1, "": 3})
    assert [kept.tolist() for kept in mixed] == [[[True, False, True]], [[False, True]], [[False, True, False, False]]]


@st.composite
def competitions(draw: st.DrawFn) -> tuple[list[torch.Tensor], list[torch.Tensor], int]:
    """Scores with ties and units that are alive, in some groups, and how many of all of them to keep."""
    seeds, sizes = draw(st.integers(1, 3)), draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    numbers = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0])
    scores = [torch.tensor([[draw(numbers) for _ in range(size)] for _ in range(seeds)]) for size in sizes]
    alive = []
    for size in sizes:
        count = draw(st.integers(1, size))
        alive.append(
            torch.tensor(
                [[unit in draw(st.permutations(range(size)))[:count] for unit in range(size)] for _ in range(seeds)]
            )
        )
        alive[-1][:, draw(st.integers(0, size - 1))] = True
    most = min(int(total) for total in torch.cat(alive, 1).sum(1))
    return scores, alive, draw(st.integers(len(sizes), most))


@given(competitions())
def test_a_competition_keeps_exactly_so_many_and_empties_no_group(
    competition: tuple[list[torch.Tensor], list[torch.Tensor], int],
) -> None:
    scores, alive, keep = competition
    groups = tuple(group(str(number), part.shape[1]) for number, part in enumerate(scores))
    kept = keep_units(groups, scores, alive, {"": keep})

    assert bool((torch.cat(kept, 1).sum(1) == keep).all())
    assert all(bool(part.any(1).all()) for part in kept)
    assert not any(bool((part & ~units).any()) for part, units in zip(kept, alive, strict=True))
    # Whoever is out scores no higher than anyone who is in and is not the best of a group.
    for seed in range(len(kept[0])):
        out = [
            float(s[seed, u])
            for s, k, a in zip(scores, kept, alive, strict=True)
            for u in range(s.shape[1])
            if a[seed, u] and not k[seed, u]
        ]
        inside = [score for s, k in zip(scores, kept, strict=True) for score in sorted(s[seed][k[seed]].tolist())[:-1]]
        assert not out or not inside or max(out) <= min(inside)


def test_counts_that_would_empty_a_group_are_named() -> None:
    groups = (group("a", 3), group("b", 2))
    scores = [torch.ones(1, 3), torch.ones(1, 2)]

    with pytest.raises(InvalidExperiment, match="keeping 0 units of 'a' would leave a group empty"):
        keep_units(groups, scores, everything(groups), {"a": 0, "b": 1})
    with pytest.raises(InvalidExperiment, match="keeping 1 units of 2 groups would leave a group empty"):
        keep_units(groups, scores, everything(groups), {"": 1})
    with pytest.raises(ValueError, match="how many units of 'b'"):
        keep_units(groups, scores, everything(groups), {"a": 1})
