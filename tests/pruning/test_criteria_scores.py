"""Scores against the formulas of their papers, and the masks that come of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scored_networks import (
    EVERYTHING,
    SHAPE,
    Tensors,
    cohort_of,
    convolutional,
    everything,
    images,
    masks_of,
    network_of,
    perceptron,
)
from torch import nn

from lth.engine import Sample
from lth.engine.evidence import gather, hessian_gradient
from lth.errors import InvalidExperiment
from lth.pruning import CRITERIA, PruningFailed, Scored, criterion_names, prune, register_criterion, select


def scores(criterion: str, seeds: tuple[int, ...] = (3, 7)) -> tuple[Tensors, dict[str, Tensors]]:
    """A criterion's scores, and everything that it could have looked at."""
    found = everything("convolutional", seeds, CRITERIA[criterion].sample)
    return {
        name: CRITERIA[criterion].score(**{need: found[need][name] for need in CRITERIA[criterion].needs})
        for name in found["weights"]
    }, found


@pytest.mark.parametrize(
    ("criterion", "formula"),
    [
        ("magnitude", lambda e: e["weights"].abs()),
        ("magnitude_init", lambda e: e["initial_weights"].abs()),
        ("magnitude_increase", lambda e: e["weights"].abs() - e["initial_weights"].abs()),
        ("random", lambda e: e["noise"]),
        ("snip", lambda e: (e["weights"] * e["gradient"]).abs()),
        ("grasp", lambda e: -(-e["weights"] * e["hessian_gradient"])),  # removed are the highest S = -w Hg
        ("synflow", lambda e: (e["flow"] * e["weights"].abs()).abs()),
        ("taylor", lambda e: e["weights"] ** 2 * e["squared_gradient"]),
        ("fisher", lambda e: 0.5 * e["fisher_diagonal"] * e["weights"] ** 2),
        ("movement", lambda e: e["movement"]),
    ],
)
def test_a_score_is_what_its_paper_says(criterion: str, formula: Callable[[Tensors], torch.Tensor]) -> None:
    found, every = scores(criterion)
    for name, score in found.items():
        expected = formula({need: every[need][name] for need in EVERYTHING})
        torch.testing.assert_close(score, expected, rtol=1e-6, atol=0)


def test_the_criteria_that_there_are_with_their_published_settings() -> None:
    assert list(criterion_names()) == [
        "fisher",
        "grasp",
        "magnitude",
        "magnitude_increase",
        "magnitude_init",
        "movement",
        "random",
        "snip",
        "synflow",
        "taylor",
    ]
    assert {name: criterion.rounds for name, criterion in CRITERIA.items() if criterion.rounds != 1} == {"synflow": 100}
    grasp = CRITERIA["grasp"].sample
    assert (grasp.examples, grasp.per_class, grasp.temperature) == (None, 10, 200.0)
    assert CRITERIA["snip"].sample.examples == 128
    assert {name for name in CRITERIA if CRITERIA[name].needs_data} == {"fisher", "grasp", "snip", "taylor"}
    assert {name for name in CRITERIA if CRITERIA[name].trained} == {"magnitude_increase", "movement"}
    assert {name for name in CRITERIA if CRITERIA[name].needs_temperature} == {"grasp"}


def pruned(criterion: str, seeds: tuple[int, ...], keep: dict[str, int], rounds: int = 1) -> Tensors:
    network = network_of(convolutional)
    cohort = cohort_of(network, seeds, images())
    return prune(cohort, CRITERIA[criterion], masks_of(network, seeds), keep, rounds=rounds)


def test_grasp_removes_the_highest_of_its_published_score() -> None:
    """All layers compete; what goes are the weights with the highest S = -w * Hg, at T = 200 and 10 of every class."""
    network, seeds = network_of(convolutional), (3, 7)
    masks = masks_of(network, seeds)
    every = everything("convolutional", seeds, Sample(None, 10, 200.0))
    s = torch.cat([(-every["weights"][name] * every["hessian_gradient"][name]).flatten(1) for name in masks], 1)
    alive = torch.cat([mask.flatten(1) for mask in masks.values()], 1)
    keep = int(alive[0].sum()) - 60
    kept = torch.cat([mask.flatten(1) for mask in pruned("grasp", seeds, {"": keep}).values()], 1)

    for row in range(2):
        gone = alive[row] & ~kept[row]
        assert int(gone.sum()) == 60
        assert float(s[row][gone].min()) > float(s[row][kept[row]].max())


@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_masks_are_exact_nested_and_the_same_in_any_cohort(criterion: str) -> None:
    network = network_of(convolutional)
    keep = {"0.weight": 20, "4.weight": 60, "8.weight": 9}
    together = pruned(criterion, (3, 7), keep, rounds=3)
    alone = pruned(criterion, (7,), keep, rounds=3)

    for name, mask in together.items():
        assert mask.flatten(1).sum(1).tolist() == [keep[name]] * 2
        assert not bool((mask & ~masks_of(network, (3, 7))[name]).any())
        assert torch.equal(mask[1], alone[name][0])


def test_rounds_score_what_is_left_in_the_network_that_it_makes() -> None:
    """Three rounds are three single ones on the ladder 100 -> 46 -> 22 -> 10 percent, scored anew each time."""
    network, seeds, data = network_of(perceptron), (3, 7), images()
    cohort = cohort_of(network, seeds, data)
    full = masks_of(network, seeds, 1.0)
    total = sum(mask[0].numel() for mask in full.values())
    once = prune(cohort, CRITERIA["synflow"], full, {"": total // 10}, rounds=1)
    masks = dict(full)
    for number in (1, 2, 3):
        keep = round(total * ((total // 10) / total) ** (number / 3)) if number < 3 else total // 10
        masks = prune(cohort, CRITERIA["synflow"], masks, {"": keep}, rounds=1)
    thrice = prune(cohort, CRITERIA["synflow"], full, {"": total // 10}, rounds=3)

    assert all(torch.equal(masks[name], thrice[name]) for name in masks)
    assert any(not torch.equal(once[name], thrice[name]) for name in once)


def test_every_round_draws_anew() -> None:
    """Noise, and the examples of a criterion that looks at data: `round_` tells their streams apart."""
    network, seeds, data = network_of(perceptron), (3, 7), images()
    cohort, full = cohort_of(network, seeds, data), masks_of(network, seeds, 1.0)
    total = sum(mask[0].numel() for mask in full.values())
    middle, end = round(total * 0.25**0.5), round(0.25 * total)
    for criterion in ("random", "snip"):
        masks = full
        for number, keep in enumerate((middle, end)):
            needs = CRITERIA[criterion].needs
            found = gather(
                frozenset(needs),
                network,
                seeds,
                cohort.weights,
                cohort.buffers,
                network.masks(masks),
                feed=cohort.feed,
                sample=Sample(20),
                level=4,
                round_=number,
            )
            masks = select(
                {name: CRITERIA[criterion].score(**{need: found[need][name] for need in needs}) for name in masks},
                masks,
                {"": keep},
            )
        twice = prune(cohort, CRITERIA[criterion], full, {"": end}, rounds=2, sample=Sample(20), level=4)
        assert all(torch.equal(masks[name], twice[name]) for name in masks)


def test_a_users_criterion_names_its_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CRITERIA, "_entries", dict(CRITERIA._entries))

    @register_criterion("signed", "w dL/dw, signed", per_class=3, rounds=2)
    def signed(weights: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        return weights * gradient

    criterion = CRITERIA["signed"]
    assert criterion.needs == ("weights", "gradient") and criterion.needs_data and not criterion.needs_temperature
    assert (criterion.rounds, criterion.sample) == (2, Sample(None, 3))
    assert criterion_names()["signed"] == "w dL/dw, signed"
    with pytest.raises(
        InvalidExperiment,
        match=r"criterion 'bad' asks for 'weight', which is no evidence; there is "
        r"fisher_diagonal, flow, gradient",
    ):

        @register_criterion("bad", "…")
        def bad(weight: torch.Tensor) -> torch.Tensor:
            return weight

    with pytest.raises(InvalidExperiment, match="a criterion named 'signed' is registered already, by"):

        @register_criterion("signed", "another")
        def other(weights: torch.Tensor) -> torch.Tensor:
            return weights


def test_scores_that_are_not_finite_stop_the_pruning() -> None:
    network, seeds = network_of(perceptron), (3,)
    cohort = cohort_of(network, seeds, images())
    cohort.weights[0, 5] = float("nan")
    broken = Scored(network, seeds, cohort.weights, {}, cohort.initial, {}, cohort.feed, SHAPE)
    with pytest.raises(PruningFailed, match="not finite"):
        prune(broken, CRITERIA["snip"], masks_of(network, seeds, 1.0), {"": 100})


def test_grasp_of_a_pruned_network_is_that_of_the_network_that_is_left() -> None:
    """H and g of the surviving weights alone, by differentiating a function of nothing but them."""
    generator = torch.Generator().manual_seed(5)
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    parameters = {
        name: torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        for name, tensor in module.named_parameters()
    }
    names = ["0.weight", "2.weight"]
    masks = {name: torch.rand(parameters[name].shape, generator=generator) < 0.5 for name in names}
    parameters.update({name: parameters[name] * masks[name] for name in names})
    inputs = torch.randn(8, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (8,), generator=generator)
    found = hessian_gradient(module, parameters, {}, inputs, labels, names, 2.0, masks)

    def loss(survivors: torch.Tensor) -> torch.Tensor:
        parts = survivors.split([int(masks[name].sum()) for name in names])
        places = {name: torch.eye(masks[name].numel(), dtype=torch.float64)[:, masks[name].flatten()] for name in names}
        filled = {name: (places[name] @ part).view_as(masks[name]) for name, part in zip(names, parts, strict=True)}
        logits = torch.func.functional_call(module, {**parameters, **filled}, (inputs,))
        return torch.nn.functional.cross_entropy(logits / 2.0, labels)

    survivors = torch.cat([parameters[name][masks[name]] for name in names])
    gradient_left = torch.func.grad(loss)(survivors)
    expected = torch.func.hessian(loss)(survivors) @ gradient_left
    assert torch.allclose(torch.cat([found[name][masks[name]] for name in names]), expected, rtol=1e-9, atol=1e-14)
    whole = hessian_gradient(module, parameters, {}, inputs, labels, names, 2.0)
    assert not torch.allclose(torch.cat([whole[name][masks[name]] for name in names]), expected, rtol=1e-2)
