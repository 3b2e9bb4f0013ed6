"""Arms: what each of them changes of a ticket, and what it must leave alone."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from lth.arms import ARMS, Draw, Ticket, arm_names
from lth.engine import Network, describe, initial_buffers, initialise
from lth.models import build_model, prunable_tensors
from lth.streams import stream

SHAPE = (1, 4, 4)
SEEDS = (3, 5, 8)


def normalised() -> nn.Module:
    """A network with buffers."""
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 10))


@pytest.fixture(params=["perceptron", "batch norm", "own initialisation"])
def network(request: pytest.FixtureRequest) -> Network:
    build = (
        normalised if request.param == "batch norm" else partial(build_model, "mlp", SHAPE, 10, {"hidden": [12, 11]})
    )
    own = "own" if request.param == "own initialisation" else "glorot_normal"
    return describe(build, SHAPE, 10, prunable_tensors(build(), SHAPE, 10), own)


def ticket_of(network: Network, seeds: tuple[int, ...]) -> Ticket:
    """A late-rewound ticket as pruning would hand it over: masks of half, weights and buffers that are not fresh."""
    masks = {
        tensor.name: torch.stack(
            [torch.rand(tensor.shape, generator=stream(seed, "mask", index)) < 0.5 for seed in seeds]
        )
        for index, tensor in enumerate(network.prunable)
    }
    weights = initialise(network, seeds) + 1
    buffers = {name: buffer + 1 for name, buffer in initial_buffers(network, seeds).items()}
    return Ticket(masks, weights, buffers)


def applied(
    arm: str, network: Network, seeds: tuple[int, ...] = SEEDS, level: int = 2, draw: int = 0
) -> tuple[Ticket, Ticket]:
    """The ticket before and after an arm."""
    before = ticket_of(network, seeds)
    return before, ARMS[arm].make(before, Draw(network, seeds, level, draw))


def prunable_weights(network: Network, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    views = network.layout.views(rows)
    return {tensor.name: views[tensor.name] for tensor in network.prunable}


def same_masks(first: Ticket, second: Ticket) -> bool:
    return all(torch.equal(first.masks[name], second.masks[name]) for name in first.masks)


def test_the_arms_that_there_are() -> None:
    assert list(arm_names()) == [
        "dense",
        "random_mask",
        "reinit",
        "reinit_constant_sign",
        "reinit_sign",
        "shuffled_mask",
        "shuffled_weights",
        "ticket",
    ]
    assert all("\n" not in text and len(text) > 20 for text in arm_names().values())
    # What has several draws of a seed; what is trained from step 0 under late rewinding; what gets the whole budget.
    assert {name for name in ARMS if not ARMS[name].random} == {"ticket", "dense", "reinit_constant_sign"}
    assert {name for name in ARMS if not ARMS[name].fresh} == {"ticket", "random_mask", "shuffled_mask"}
    assert {name for name in ARMS if ARMS[name].whole_budget} == {"dense"}


def test_the_ticket_is_handed_on_unchanged(network: Network) -> None:
    before, after = applied("ticket", network)

    assert after is before


def test_reinit_keeps_the_mask_and_starts_from_other_fresh_weights(network: Network) -> None:
    before, after = applied("reinit", network)

    assert same_masks(before, after)
    assert ARMS["reinit"].fresh  # trained for the whole duration, even under late rewinding
    init = initialise(network, SEEDS)
    for name, fresh in prunable_weights(network, after.weights).items():
        assert bool((fresh != prunable_weights(network, init)[name]).float().mean() > 0.99)
    fresh_buffers = initial_buffers(network, SEEDS)
    assert after.buffers.keys() == fresh_buffers.keys()
    assert all(torch.equal(after.buffers[name], fresh_buffers[name]) for name in fresh_buffers)


def test_reinit_draws_from_the_distribution_of_the_initialisation() -> None:
    build = partial(build_model, "mlp", SHAPE, 10, {"hidden": [200]})
    network = describe(build, SHAPE, 10, prunable_tensors(build(), SHAPE, 10), "glorot_normal")
    _, after = applied("reinit", network)

    views = network.layout.views(after.weights)
    for name, fan_in, fan_out in (("1.weight", 16, 200), ("3.weight", 200, 10)):
        deviation = (2 / (fan_in + fan_out)) ** 0.5  # Glorot & Bengio 2010
        assert float(views[name].std()) == pytest.approx(deviation, rel=0.05)
        assert abs(float(views[name].mean())) < 0.05 * deviation
        assert not bool(views[name.replace("weight", "bias")].any())


def test_reinit_is_another_draw_for_every_seed_level_and_draw(network: Network) -> None:
    drawn = [
        applied("reinit", network, level=level, draw=draw)[1].weights
        for level, draw in ((1, 0), (2, 0), (2, 1), (12, 0), (1, 2))
    ]

    rows = [
        tuple(prunable_weights(network, weights)[network.prunable[0].name][row].flatten().tolist())
        for weights in drawn
        for row in range(len(SEEDS))
    ]
    assert len(set(rows)) == len(rows)
    assert torch.equal(drawn[1], applied("reinit", network, level=2, draw=0)[1].weights)


def test_random_mask_keeps_counts_and_weights(network: Network) -> None:
    before, after = applied("random_mask", network)

    assert after.weights is before.weights
    assert after.buffers is before.buffers
    assert not ARMS["random_mask"].fresh  # the ticket's own starting point
    assert list(after.masks) == list(before.masks)
    for name, mask in after.masks.items():
        assert mask.dtype == torch.bool
        assert mask.shape == before.masks[name].shape
        assert torch.equal(mask.flatten(1).sum(1), before.masks[name].flatten(1).sum(1))
        assert not torch.equal(mask, before.masks[name])


def test_random_mask_is_another_draw_for_every_seed_level_draw_and_layer(network: Network) -> None:
    full = {tensor.name: torch.zeros(len(SEEDS), *tensor.shape, dtype=torch.bool) for tensor in network.prunable}
    for mask in full.values():
        mask.flatten(1)[:, :50] = True  # equal counts, so that equal draws would be equal masks
    ticket = Ticket(full, initialise(network, SEEDS), {})

    drawn = [
        ARMS["random_mask"].make(ticket, Draw(network, SEEDS, level, draw)).masks
        for level, draw in ((1, 0), (2, 0), (2, 1), (12, 0), (1, 2))
    ]
    rows = [
        tuple(masks[name][row].flatten().nonzero().flatten().tolist())
        for masks in drawn
        for name in full
        for row in range(len(SEEDS))
    ]
    assert len(set(rows)) == len(rows)
    again = ARMS["random_mask"].make(ticket, Draw(network, SEEDS, 2, 0)).masks
    assert all(torch.equal(again[name], drawn[1][name]) for name in full)


def test_layers_of_one_shape_get_masks_of_their_own() -> None:
    build = partial(build_model, "mlp", SHAPE, 10, {"hidden": [16, 16]})
    network = describe(build, SHAPE, 10, prunable_tensors(build(), SHAPE, 10), "glorot_normal")
    halves = torch.zeros(len(SEEDS), 16, 16, dtype=torch.bool)
    halves[:, :8] = True
    ticket = Ticket({"1.weight": halves, "3.weight": halves}, initialise(network, SEEDS), {})

    masks = ARMS["random_mask"].make(ticket, Draw(network, SEEDS, 1, 0)).masks
    agreement = (masks["1.weight"] == masks["3.weight"]).float().mean()
    assert float(agreement) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("arm", sorted(ARMS))
def test_a_seed_gets_the_same_in_any_cohort(arm: str, network: Network) -> None:
    _, together = applied(arm, network, (3, 5, 8), draw=1)

    for cohort in ((3,), (5, 3), (8, 5, 3), (0, 1, 8)):
        _, other = applied(arm, network, cohort, draw=1)
        for row, seed in enumerate(cohort):
            if seed in SEEDS:
                place = SEEDS.index(seed)
                assert torch.equal(other.weights[row], together.weights[place])
                assert all(torch.equal(other.masks[name][row], together.masks[name][place]) for name in other.masks)
                assert all(
                    torch.equal(other.buffers[name][row], together.buffers[name][place]) for name in together.buffers
                )


@pytest.mark.parametrize("arm", sorted(ARMS))
def test_an_arm_leaves_the_ticket_and_torchs_generator_as_they_were(arm: str, network: Network) -> None:
    reference, before = ticket_of(network, SEEDS), ticket_of(network, SEEDS)
    state = torch.get_rng_state()
    ARMS[arm].make(before, Draw(network, SEEDS, 1, 0))

    assert torch.equal(before.weights, reference.weights)
    assert all(torch.equal(before.buffers[name], buffer) for name, buffer in reference.buffers.items())
    assert same_masks(before, reference)
    assert torch.equal(torch.get_rng_state(), state)
