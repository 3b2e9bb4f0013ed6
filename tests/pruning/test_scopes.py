"""Who wins: exact counts, ties by position, pruned weights stay pruned, global competition, random masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lth.errors import LthError
from lth.pruning import CRITERIA, PruningFailed, criterion_names, keep_highest, random_like, select
from lth.pruning.criteria.magnitude import magnitude
from lth.streams import stream


def slowly(scores: list[float], mask: list[bool], keep: int) -> list[bool]:
    """Prune one weight after another: always the lowest score, and among equals the first."""
    alive = list(mask)
    while sum(alive) > keep:
        lowest = min(score for score, there in zip(scores, alive, strict=True) if there)
        alive[next(i for i, there in enumerate(alive) if there and scores[i] == lowest)] = False
    return alive


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Scores with many ties, random masks with equal counts, and how many to keep."""
    seeds, weights = draw(st.integers(1, 4)), draw(st.integers(1, 24))
    alive = draw(st.integers(0, weights))
    scores = draw(
        st.lists(st.sampled_from([-3.0, -0.5, 0.0, 0.5, 1.0, 2.0]), min_size=seeds * weights, max_size=seeds * weights)
    )
    masks = [
        [position in kept for position in range(weights)]
        for kept in (draw(st.sets(st.integers(0, weights - 1), min_size=alive, max_size=alive)) for _ in range(seeds))
    ]
    return torch.tensor(scores).view(seeds, weights), torch.tensor(masks), draw(st.integers(0, alive))


@given(cohorts())
def test_the_highest_are_kept_as_a_slow_reference_does_it(cohort: tuple[torch.Tensor, torch.Tensor, int]) -> None:
    scores, mask, keep = cohort
    kept = keep_highest(scores, mask, keep)

    assert kept.tolist() == [slowly(*row, keep) for row in zip(scores.tolist(), mask.tolist(), strict=True)]
    assert kept.dtype == torch.bool
    assert bool((kept.sum(1) == keep).all())  # exactly, whatever ties
    assert not bool((kept & ~mask).any())  # a pruned weight never returns


@given(cohorts())
def test_a_seed_wins_alone_as_in_its_cohort(cohort: tuple[torch.Tensor, torch.Tensor, int]) -> None:
    scores, mask, keep = cohort
    together = keep_highest(scores, mask, keep)

    for row in range(len(scores)):
        assert torch.equal(keep_highest(scores[row : row + 1], mask[row : row + 1], keep)[0], together[row])


def test_among_equals_the_first_is_pruned_first() -> None:
    scores, mask = torch.ones(1, 5), torch.tensor([[True, True, False, True, True]])

    assert keep_highest(scores, mask, 3).tolist() == [[False, True, False, True, True]]
    assert keep_highest(scores, mask, 1).tolist() == [[False, False, False, False, True]]
    # Zero and minus zero are equal.
    assert keep_highest(torch.tensor([[0.0, -0.0, 0.0]]), torch.ones(1, 3, dtype=torch.bool), 1).tolist() == [
        [False, False, True]
    ]


def test_ties_in_a_large_layer_are_broken_by_position_too() -> None:
    """Sorting takes other paths for many values; every one must be stable."""
    weights = 200_000
    kept = keep_highest(torch.ones(2, weights), torch.ones(2, weights, dtype=torch.bool), 1000)

    assert not bool(kept[:, :-1000].any())
    assert bool(kept[:, -1000:].all())


def test_a_pruned_weight_never_returns_however_high_its_score() -> None:
    scores, mask = torch.tensor([[9.0, 1.0, 2.0]]), torch.tensor([[False, True, True]])

    assert keep_highest(scores, mask, 1).tolist() == [[False, False, True]]
    # What a pruned weight scores is nobody's business.
    scores[0, 0] = math.nan
    assert keep_highest(scores, mask, 1).tolist() == [[False, False, True]]


def test_scores_and_masks_are_left_alone() -> None:
    scores, mask = torch.tensor([[3.0, 1.0]]), torch.tensor([[True, True]])
    keep_highest(scores, mask, 1)

    assert scores.tolist() == [[3.0, 1.0]]
    assert mask.tolist() == [[True, True]]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(wrong: float) -> None:
    with pytest.raises(PruningFailed, match="not finite") as refused:
        keep_highest(torch.tensor([[1.0, 2.0], [1.0, wrong]]), torch.ones(2, 2, dtype=torch.bool), 1)
    assert refused.value.rows == [1]


def test_more_than_there_is_cannot_be_kept() -> None:
    with pytest.raises(PruningFailed, match="cannot keep 2 weights: only 1 remain"):
        keep_highest(torch.ones(2, 2), torch.tensor([[True, True], [False, True]]), 2)


def layers() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(7)
    shapes = {"a": (3, 4, 2), "b": (3, 5), "c": (3, 2, 2)}
    scores = {name: torch.randint(0, 40, shape, generator=generator).float() for name, shape in shapes.items()}
    return scores, {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}


def test_each_layer_keeps_its_own_count() -> None:
    scores, masks = layers()
    new = select(scores, masks, {"a": 5, "b": 2, "c": 1})

    assert list(new) == ["a", "b", "c"]
    for name, count in (("a", 5), ("b", 2), ("c", 1)):
        assert new[name].shape == masks[name].shape
        for seed in range(3):
            expected = slowly(scores[name][seed].flatten().tolist(), [True] * masks[name][seed].numel(), count)
            assert new[name][seed].flatten().tolist() == expected


def test_in_a_global_competition_all_weights_of_a_seed_meet() -> None:
    scores, masks = layers()
    keep = 9
    new = select(scores, masks, {"": keep})

    for seed in range(3):
        joined = torch.cat([scores[name][seed].flatten() for name in scores])
        expected = slowly(joined.tolist(), [True] * len(joined), keep)
        assert torch.cat([new[name][seed].flatten() for name in scores]).tolist() == expected
    # It is a competition: seeds distribute the same total differently.
    assert len({tuple(int(new[name][seed].sum()) for name in new) for seed in range(3)}) > 1


def test_global_competition_goes_on_from_level_to_level_and_leaves_others_alone() -> None:
    scores, masks = layers()
    first = select(scores, masks, {"c": 4, "": 10})
    second = select({name: score.flip(1) for name, score in scores.items()}, first, {"c": 4, "": 7})

    assert bool(first["c"].all())
    assert bool(second["c"].all())
    for seed in range(3):
        assert int(first["a"][seed].sum() + first["b"][seed].sum()) == 10
        assert int(second["a"][seed].sum() + second["b"][seed].sum()) == 7
    assert not any(bool((second[name] & ~first[name]).any()) for name in masks)


def test_a_layer_that_a_competition_empties_is_named() -> None:
    scores = {"strong.weight": torch.full((2, 4), 5.0), "weak.weight": torch.ones(2, 3)}
    scores["weak.weight"][0] = 9.0  # only the second seed's layer is lost
    masks = {name: torch.ones_like(score, dtype=torch.bool) for name, score in scores.items()}

    with pytest.raises(LthError) as caught:
        select(scores, masks, {"": 4})
    text = str(caught.value)
    assert "\n" not in text
    assert "'weak.weight'" in text
    assert "to 4 weights" in text
    assert "another pruning.scope" in text
    assert "pruning.allow_empty_layers" in text
    # The remedy works: the seed whose layer is lost goes on without it.
    new = select(scores, masks, {"": 4}, allow_empty=True)
    assert new["weak.weight"].sum(1).tolist() == [3, 0]
    assert new["strong.weight"].sum(1).tolist() == [1, 4]


def test_magnitude_is_the_absolute_value() -> None:
    assert magnitude(torch.tensor([[-3.0, 0.0, 2.0]])).tolist() == [[3.0, 0.0, 2.0]]
    assert CRITERIA["magnitude"].score is magnitude
    assert CRITERIA["magnitude"].needs == ("weights",)
    assert "Han et al. 2015" in criterion_names()["magnitude"]


def test_a_random_mask_keeps_each_seeds_count_and_shape() -> None:
    mask = torch.zeros(3, 4, 5, dtype=torch.bool)
    for seed, count in enumerate((0, 7, 20)):
        mask[seed].view(-1)[:count] = True
    drawn = random_like(mask, [stream(seed, "test") for seed in range(3)])

    assert drawn.shape == mask.shape
    assert drawn.flatten(1).sum(1).tolist() == [0, 7, 20]
    assert not torch.equal(drawn[1], mask[1])


def test_a_random_mask_is_uniform_over_positions() -> None:
    """Chi-square of 4,000 draws of 4 out of 16; neither too far from uniform nor suspiciously even."""
    positions, kept, draws = 16, 4, 4000
    mask = torch.zeros(draws, positions, dtype=torch.bool)
    mask[:, :kept] = True
    hits = random_like(mask, [stream(seed, "uniform") for seed in range(draws)]).sum(0).numpy().astype(float)

    p = kept / positions
    # Without replacement: each count has variance n p (1-p), all together have positions - 1 degrees of freedom.
    statistic = float(((hits - draws * p) ** 2).sum() / (draws * p * (1 - p)) * (positions - 1) / positions)
    low, high = stats.chi2.ppf([0.001, 0.999], positions - 1)
    assert low < statistic < high
    # Pairs too: how often the first position and each other are kept together.
    drawn = random_like(mask, [stream(seed, "pairs") for seed in range(draws)]).numpy()
    together = np.array([(drawn[:, 0] & drawn[:, other]).mean() for other in range(1, positions)])
    expected = p * (kept - 1) / (positions - 1)
    assert np.abs(together - expected).max() < 5 * math.sqrt(expected * (1 - expected) / draws)


def test_a_seeds_random_mask_does_not_depend_on_its_cohort() -> None:
    mask = torch.zeros(4, 30, dtype=torch.bool)
    mask[:, 10:19] = True
    together = random_like(mask, [stream(seed, "x") for seed in range(4)])

    for seed in range(4):
        assert torch.equal(random_like(mask[seed : seed + 1], [stream(seed, "x")])[0], together[seed])
    assert len({tuple(row) for row in together.tolist()}) == 4
