"""The controls of signs, places and budgets: what each keeps to the bit, and that it changes what it says."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from lth.arms import ARMS, Draw, Ticket, register_arm
from lth.engine import Network, describe, initial_buffers, initialise
from lth.errors import InvalidExperiment
from lth.models import build_model, prunable_tensors
from lth.streams import stream

SHAPE = (1, 8, 8)
SEEDS = (3, 5, 8)


def perceptron(initialisation: str = "glorot_normal") -> Network:
    build = partial(build_model, "mlp", SHAPE, 10, {"hidden": [64, 50]})
    return describe(build, SHAPE, 10, prunable_tensors(build(), SHAPE, 10), initialisation)


@pytest.fixture(scope="module")
def network() -> Network:
    return perceptron()


@pytest.fixture(scope="module")
def ticket(network: Network) -> Ticket:
    """A ticket rewound to weights that are not the initial ones; another count of ones in every layer and seed."""
    masks = {
        tensor.name: torch.stack(
            [torch.rand(tensor.shape, generator=stream(seed, "mask", index)) < 0.3 for seed in SEEDS]
        )
        for index, tensor in enumerate(network.prunable)
    }
    return Ticket(masks, initialise(network, SEEDS) * 0.5 + 0.1, initial_buffers(network, SEEDS))


def made(arm: str, ticket: Ticket, network: Network, level: int = 1, draw: int = 0) -> Ticket:
    return ARMS[arm].make(ticket, Draw(network, SEEDS, level, draw))


def prunable(network: Network, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    views = network.layout.views(rows)
    return {tensor.name: views[tensor.name] for tensor in network.prunable}


def others(network: Network, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    names = {tensor.name for tensor in network.prunable}
    return {name: view for name, view in network.layout.views(rows).items() if name not in names}


def test_a_shuffled_mask_has_each_layers_count_in_other_places(ticket: Ticket, network: Network) -> None:
    shuffled = made("shuffled_mask", ticket, network)

    assert shuffled.weights is ticket.weights and shuffled.buffers is ticket.buffers
    counts = set()
    for name, mask in ticket.masks.items():
        moved = shuffled.masks[name]
        assert moved.shape == mask.shape and moved.dtype == torch.bool
        assert torch.equal(moved.flatten(1).sum(1), mask.flatten(1).sum(1))
        counts |= set(mask.flatten(1).sum(1).tolist())
        # Of places chosen by chance a share of `density` was kept before, too: nothing of the ticket's choice is left.
        for row in range(len(SEEDS)):
            kept, density = mask[row][moved[row]].float().mean(), mask[row].float().mean()
            assert float(kept) == pytest.approx(float(density), abs=5 * (0.21 / int(moved[row].sum())) ** 0.5)
    assert len(counts) > 3


def test_shuffled_weights_are_the_initial_ones_of_their_layer_in_other_places(ticket: Ticket, network: Network) -> None:
    shuffled, initial = made("shuffled_weights", ticket, network), initialise(network, SEEDS)

    assert shuffled.masks is ticket.masks
    for name, weights in prunable(network, shuffled.weights).items():
        before = prunable(network, initial)[name]
        for row in range(len(SEEDS)):
            assert torch.equal(weights[row].flatten().sort().values, before[row].flatten().sort().values)
            assert float((weights[row] == before[row]).float().mean()) < 0.05
            correlation = torch.corrcoef(torch.stack([weights[row].flatten(), before[row].flatten()]))[0, 1]
            assert abs(float(correlation)) < 5 / before[row].numel() ** 0.5
    for name, bias in others(network, shuffled.weights).items():
        assert torch.equal(bias, others(network, initial)[name])


@pytest.mark.parametrize("initialisation", ["glorot_normal", "kaiming_normal", "own"])
def test_reinit_sign_keeps_every_initial_sign_and_draws_magnitudes_as_an_initialisation(initialisation: str) -> None:
    network = perceptron(initialisation)
    masks = {tensor.name: torch.ones(len(SEEDS), *tensor.shape, dtype=torch.bool) for tensor in network.prunable}
    before = Ticket(masks, initialise(network, SEEDS) + 1, {})
    drawn, initial = made("reinit_sign", before, network), initialise(network, SEEDS)

    assert drawn.masks is before.masks
    assert not torch.equal(drawn.weights, made("reinit", before, network).weights)
    for name, weights in prunable(network, drawn.weights).items():
        first = prunable(network, initial)[name]
        assert torch.equal(torch.sign(weights), torch.sign(first))
        assert float((weights == first).float().mean()) < 0.01
        magnitudes, known = weights.abs().flatten(), first.abs().flatten()
        correlation = torch.corrcoef(torch.stack([magnitudes, known]))[0, 1]
        assert abs(float(correlation)) < 5 / len(known) ** 0.5
        # Two samples of one distribution: the largest gap of their cumulative distributions (Kolmogorov & Smirnov),
        # whose chance to pass 1.95 sqrt(2 / n) is 1 in 1,000.
        values = torch.cat([magnitudes, known]).sort().values
        gap = (
            torch.searchsorted(magnitudes.sort().values, values, right=True)
            - torch.searchsorted(known.sort().values, values, right=True)
        ).abs().max() / len(known)
        assert float(gap) < 1.95 * (2 / len(known)) ** 0.5


def test_reinit_constant_sign_is_one_deviation_per_layer(ticket: Ticket, network: Network) -> None:
    constant, initial = made("reinit_constant_sign", ticket, network), initialise(network, SEEDS)

    assert constant.masks is ticket.masks
    for (name, weights), fans in zip(
        prunable(network, constant.weights).items(), ((64, 64), (64, 50), (50, 10)), strict=True
    ):
        first = prunable(network, initial)[name]
        assert torch.equal(torch.sign(weights), torch.sign(first))
        for row in range(len(SEEDS)):
            magnitude = weights[row].abs().unique()
            assert len(magnitude) == 1
            assert float(magnitude) == pytest.approx(first[row].double().numpy().std(ddof=1), rel=1e-5)
            assert float(magnitude) == pytest.approx((2 / sum(fans)) ** 0.5, rel=0.1)  # Glorot & Bengio 2010
    for name, bias in others(network, constant.weights).items():
        assert torch.equal(bias, others(network, initial)[name])


@pytest.mark.parametrize("arm", ["reinit", "reinit_sign", "reinit_constant_sign", "shuffled_weights"])
def test_weights_drawn_anew_owe_nothing_to_those_rewound_to(arm: str, ticket: Ticket, network: Network) -> None:
    elsewhere = replace(ticket, weights=torch.full_like(ticket.weights, 7.0))

    assert torch.equal(made(arm, ticket, network).weights, made(arm, elsewhere, network).weights)
    assert made(arm, ticket, network).masks is ticket.masks


def test_the_dense_arm_is_the_network_of_level_zero(ticket: Ticket, network: Network) -> None:
    dense = made("dense", ticket, network, level=4)

    assert all(bool(mask.all()) and mask.shape == ticket.masks[name].shape for name, mask in dense.masks.items())
    assert torch.equal(dense.weights, initialise(network, SEEDS))
    assert dense.buffers.keys() == initial_buffers(network, SEEDS).keys()


@pytest.mark.parametrize("arm", sorted(name for name in ARMS if ARMS[name].random))
def test_every_seed_level_and_draw_of_a_random_arm_is_another(arm: str, ticket: Ticket, network: Network) -> None:
    drawn = [made(arm, ticket, network, level, draw) for level, draw in ((1, 0), (2, 0), (2, 1), (12, 0), (1, 2))]
    name = network.prunable[0].name
    effective = [
        (prunable(network, one.weights)[name] * one.masks[name])[row].flatten().tolist()
        for one in drawn
        for row in range(len(SEEDS))
    ]

    assert len({tuple(weights) for weights in effective}) == 5 * len(SEEDS)
    again = made(arm, ticket, network, 2, 1)
    assert torch.equal(again.weights, drawn[2].weights)
    assert all(torch.equal(again.masks[name], drawn[2].masks[name]) for name in again.masks)


def test_the_same_definition_may_be_registered_again_and_another_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ARMS, "_entries", dict(ARMS._entries))

    def opposite(ticket: Ticket, draw: Draw) -> Ticket:
        return replace(ticket, weights=-ticket.weights)

    def another(ticket: Ticket, draw: Draw) -> Ticket:
        return ticket

    for _ in range(2):  # as a notebook's cell does that is run twice
        register_arm("opposite", "the ticket's mask, its weights with the opposite sign", random=False)(opposite)
    assert ARMS["opposite"].make is opposite and not ARMS["opposite"].random
    with pytest.raises(InvalidExperiment) as caught:
        register_arm("opposite", "something else")(another)
    assert str(caught.value) == (f"an arm named 'opposite' is registered already, by {__name__}; choose another name")
    with pytest.raises(InvalidExperiment, match=r"an arm named 'reinit' is registered already, by lth\.arms\.controls"):
        register_arm("reinit", "something else")(another)
    assert ARMS["opposite"].make is opposite


def test_an_unknown_arm_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InvalidExperiment, match=r"^unknown arm 'reinti'; did you mean 'reinit'\? known: dense, "):
        ARMS["reinti"]
