"""Overlap of masks: by hand, against scikit-learn, and random masks at chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom
from sklearn.metrics import jaccard_score

from lth.analysis import overlap as overlap_module
from lth.analysis.overlap import WHOLE_NETWORK, overlap_rows, overlaps
from lth.errors import LthError
from lth.store import Unit
from lth.store.analysis_schemas import OVERLAP


def mask(*rows: str) -> torch.Tensor:
    """Masks [seeds, n] from strings of 0 and 1."""
    return torch.tensor([[bit == "1" for bit in row] for row in rows])


def random_masks(seeds: int, weights: int, keep: int, stream: int) -> torch.Tensor:
    scores = torch.rand(seeds, weights, generator=torch.Generator().manual_seed(stream))
    return scores.argsort(1) < keep


def test_two_small_masks_by_hand() -> None:
    a = {"first": mask("1100"), "second": mask("11")}
    b = {"first": mask("0110"), "second": mask("10")}
    found = overlaps(a, b)

    first, second, network = found.tensors["first"], found.tensors["second"], found.network
    assert (first.intersection.item(), first.union.item(), first.jaccard.item()) == (1, 3, 1 / 3)
    assert first.chance.item() == 1 / 3  # 2*2/4 = 1 shared of 2 + 2 - 1
    assert (second.intersection.item(), second.union.item(), second.jaccard.item()) == (1, 2, 1 / 2)
    assert second.chance.item() == 1 / 2  # 2*1/2 = 1 shared of 2 + 1 - 1
    assert (network.remaining_a.item(), network.remaining_b.item()) == (4, 3)
    assert (network.intersection.item(), network.union.item(), network.jaccard.item()) == (2, 5, 2 / 5)
    assert network.chance.item() == 2 / 5  # 1 + 1 shared of 4 + 3 - 2


def test_empty_and_dense_masks() -> None:
    found = overlaps({"w": mask("0000", "1111")}, {"w": mask("0000", "1111", "1000")}).network
    assert math.isnan(found.jaccard[0, 0]) and math.isnan(found.chance[0, 0])  # 0 of 0
    assert found.jaccard[0, 1:].tolist() == found.chance[0, 1:].tolist() == [0.0, 0.0]
    assert found.jaccard[1, 1] == found.chance[1, 1] == 1.0
    assert found.jaccard[1, 2] == found.chance[1, 2] == 0.25  # all of a dense mask: chance is certain


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 30), st.integers(0, 10**6), st.sampled_from([1, 7, 2**24]))
def test_every_pair_agrees_with_scikit_learn(a: int, b: int, weights: int, seed: int, floats: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks_a = {
        "one": torch.rand(a, weights, generator=generator) < 0.6,
        "two": torch.rand(a, 2, 3, generator=generator) < 0.3,
    }
    masks_b = {
        "one": torch.rand(b, weights, generator=generator) < 0.4,
        "two": torch.rand(b, 2, 3, generator=generator) < 0.7,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap_module, "_FLOATS_AT_ONCE", floats)  # however it is cut into pieces
        found = overlaps(masks_a, masks_b)

    whole_a = torch.cat([part.flatten(1) for part in masks_a.values()], 1).numpy()
    whole_b = torch.cat([part.flatten(1) for part in masks_b.values()], 1).numpy()
    for agreement, left, right in (
        (found.tensors["one"], masks_a["one"].numpy(), masks_b["one"].numpy()),
        (found.network, whole_a, whole_b),
    ):
        for i in range(a):
            for j in range(b):
                assert agreement.intersection[i, j] == np.count_nonzero(left[i] & right[j])
                assert agreement.union[i, j] == np.count_nonzero(left[i] | right[j])
                if agreement.union[i, j]:
                    assert agreement.jaccard[i, j] == pytest.approx(jaccard_score(left[i], right[j]), abs=1e-15)


def test_a_mask_overlaps_itself_entirely_and_order_does_not_matter() -> None:
    masks = {"w": random_masks(5, 200, 40, 1).view(5, 10, 20)}
    found = overlaps(masks, masks).network
    assert np.diag(found.jaccard).tolist() == [1.0] * 5
    assert np.array_equal(found.intersection, found.intersection.T)
    assert np.array_equal(found.chance, found.chance.T)


def test_independent_random_masks_overlap_at_chance() -> None:
    kept = {"first": (400, 60, 40), "second": (300, 10, 200)}
    seeds = 60
    a = {name: random_masks(seeds, n, keep, 10) for name, (n, keep, _) in kept.items()}
    b = {name: random_masks(seeds, n, keep, 20) for name, (n, _, keep) in kept.items()}
    found = overlaps(a, b)
    for agreement, names in (
        (found.tensors["first"], ["first"]),
        (found.tensors["second"], ["second"]),
        (found.network, ["first", "second"]),
    ):
        assert np.unique(agreement.chance).size == 1  # equal counts, equal chance
        expected = sum(kept[name][1] * kept[name][2] / kept[name][0] for name in names)
        variance = sum(float(hypergeom(*kept[name]).var()) for name in names)
        union = sum(kept[name][1] + kept[name][2] for name in names) - expected
        # dJ/dI = (a + b) / union^2. Pairs share masks but are uncorrelated, as masks are uniform.
        deviation = math.sqrt(variance) * (union + expected) / union**2 / seeds
        bias = agreement.chance[0, 0] / (union + expected)
        assert abs(agreement.jaccard.mean() - agreement.chance[0, 0]) < 4 * deviation + bias


@given(st.integers(1, 300), st.data())
def test_chance_is_below_the_expected_jaccard_index_by_a_known_fraction_at_most(n: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(1, n)), data.draw(st.integers(1, n))
    shared = np.arange(max(0, a + b - n), min(a, b) + 1)
    exact = float((hypergeom(n, a, b).pmf(shared) * shared / (a + b - shared)).sum())
    whole = torch.arange(n).unsqueeze(0)
    chance = float(overlaps({"w": whole < a}, {"w": whole < b}).network.chance.item())
    assert chance <= exact * (1 + 1e-9)
    assert exact <= chance * (1 + 2 / (a + b)) * (1 + 1e-9)


def test_rows_of_seeds_name_every_pair_once() -> None:
    masks = {"one": mask("1100", "0110", "0011"), "two": mask("00", "00", "10")}
    unit = Unit("ticket", 0, 3, (2, 5, 9))
    table = overlap_rows(overlaps(masks, masks), "toy-0123456789", unit, unit)

    assert table.schema.equals(OVERLAP, check_metadata=True)
    rows = table.to_pylist()
    assert [(row["tensor"], row["seed_a"], row["seed_b"]) for row in rows] == [
        (tensor, *pair) for tensor in ("one", "two", WHOLE_NETWORK) for pair in ((2, 5), (2, 9), (5, 9))
    ]
    assert {(row["experiment_id"], row["between"], row["arm_a"], row["draw_b"], row["level_a"]) for row in rows} == {
        ("toy-0123456789", "seeds", "ticket", 0, 3)
    }
    assert [row["jaccard"] for row in rows] == [1 / 3, 0.0, 1 / 3, None, 0.0, 0.0, 1 / 3, 0.0, 1 / 4]
    assert [row["chance"] is None for row in rows] == [False] * 3 + [True] + [False] * 5
    assert rows[8]["remaining_a"] == 2 and rows[8]["remaining_b"] == 3 and rows[8]["union"] == 4

    late = Unit("ticket", 0, 3, (3, 4))
    some = {name: values[:2] for name, values in masks.items()}
    across = [
        overlap_rows(overlaps(left, right), "x", one, other)["seed_a"].to_pylist()
        for left, right, one, other in ((masks, some, unit, late), (some, masks, late, unit))
    ]
    assert across == [[2, 2] * 3, [3, 3, 4, 4] * 3]  # together each of the six pairs once


def test_rows_of_arms_and_of_levels_pair_a_seed_with_itself() -> None:
    masks = {"w": mask("1100", "0110", "0011")}
    ticket, other = Unit("ticket", 0, 3, (2, 5, 9)), Unit("random_mask", 1, 3, (5, 9, 11))
    rows = overlap_rows(overlaps(masks, masks), "x", ticket, other).to_pylist()
    assert [(row["between"], row["seed_a"], row["seed_b"], row["intersection"]) for row in rows] == [
        ("arms", 5, 5, 1),
        ("arms", 9, 9, 1),
    ] * 2  # second against first, third against second

    deeper = Unit("ticket", 0, 4, (2, 5, 9))
    levels = overlap_rows(overlaps(masks, masks), "x", ticket, deeper).to_pylist()
    assert [(row["between"], row["seed_a"], row["level_b"], row["jaccard"]) for row in levels[:3]] == [
        ("levels", 2, 4, 1.0),
        ("levels", 5, 4, 1.0),
        ("levels", 9, 4, 1.0),
    ]
    assert overlap_rows(overlaps(masks, masks), "x", ticket, Unit("reinit", 0, 3, (0, 1, 3))).num_rows == 0


def test_what_cannot_be_compared_is_refused_in_one_line() -> None:
    masks = {"w": mask("10", "01")}
    with pytest.raises(LthError, match="same tensors only; got w and v"):
        overlaps(masks, {"v": mask("10")})
    with pytest.raises(LthError, match=r"shapes \(2,\) and \(3,\)"):
        overlaps(masks, {"w": mask("100")})
    with pytest.raises(LthError, match="float32; a mask is boolean"):
        overlaps(masks, {"w": torch.ones(1, 2)})
    found = overlaps(masks, masks)
    with pytest.raises(LthError, match="differ in two things"):
        overlap_rows(found, "x", Unit("ticket", 0, 1, (0, 1)), Unit("reinit", 0, 2, (0, 1)))
    with pytest.raises(LthError, match="2 by 2 masks, but the units have 2 and 3 seeds"):
        overlap_rows(found, "x", Unit("ticket", 0, 1, (0, 1)), Unit("ticket", 0, 1, (0, 1, 2)))
