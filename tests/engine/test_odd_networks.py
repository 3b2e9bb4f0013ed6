"""What becomes of unusual parameters in training: initial weights, frozen and shared ones, numbers without axes."""

from __future__ import annotations

import math
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from small_networks import images, recipe
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from lth.engine import CohortTraining, Network, Start, describe, initial_buffers, initialise, make_feed
from lth.engine.optimizers.sgd import SGD
from lth.errors import InvalidExperiment
from lth.models import build_model, structure_of
from lth.models.calling import call, first_names, trained_and_held

SHAPE = (1, 8, 8)


def network(name: str, initialisation: str = "own") -> Network:
    build = partial(build_model, f"odd_networks:{name}", SHAPE, 10)
    found = structure_of(build(), SHAPE, 10)
    return describe(build, SHAPE, 10, found.prunable, initialisation, found.matrices)


def tensors(of: Network, seed: int = 0) -> dict[str, torch.Tensor]:
    views = of.layout.views(initialise(of, (seed,)))
    return {name: view[0] for name, view in {**views, **initial_buffers(of, (seed,))}.items()}


@pytest.mark.parametrize("kind", ["glorot_normal", "kaiming_normal"])
def test_weights_without_a_layer_are_drawn_by_their_fan(kind: str) -> None:
    drawn, own = tensors(network("Attention", kind)), tensors(network("Attention"))
    spread = {"within.in_proj_weight": (8, 24), "across.k_proj_weight": (8, 12), "encoder.linear2.weight": (16, 12)}

    for name, (inputs, outputs) in spread.items():
        deviation = math.sqrt(2 / (inputs + outputs if kind == "glorot_normal" else inputs))
        assert float(drawn[name].std()) == pytest.approx(deviation, rel=0.25)
        assert not torch.equal(drawn[name], own[name])
    assert all(torch.equal(drawn[name], own[name]) for name in ("positions", "queries", "norm.weight"))


@pytest.mark.parametrize("kind", ["glorot_normal", "kaiming_normal"])
@pytest.mark.parametrize("name", ["weight_normed", "spectral_normed"])
def test_weights_that_are_computed_are_drawn_as_what_is_computed(name: str, kind: str) -> None:
    described = network(name, kind)
    module = described.build().eval()
    held = tensors(described)
    layer = module[3], module[4]
    found = []

    def note(_layer: nn.Module, _inputs: object, _output: object) -> None:
        found.append(_layer.weight.detach().clone())

    for each in layer:
        each.register_forward_hook(note)
    call(module, held, torch.randn(2, *SHAPE))
    deviation = math.sqrt(2 / (24 if kind == "glorot_normal" else 12))
    for weight in found:
        if name == "weight_normed":
            assert float(weight.std()) == pytest.approx(deviation, rel=0.25)
        else:
            assert float(torch.linalg.matrix_norm(weight, 2)) == pytest.approx(1, rel=0.02)
    assert not torch.equal(*found)
    assert all((tensor == 0).all() for key, tensor in held.items() if key.endswith("bias"))


def test_a_parametrisation_that_takes_no_value_is_refused_in_a_line() -> None:
    with pytest.raises(InvalidExperiment, match="initialisation to own") as caught:
        network("orthogonal", "glorot_normal")
    assert len(str(caught.value).splitlines()) == 1
    assert network("orthogonal", "own").initialisation == "own"


def trained(of: Network, stack: bool | None = None, steps: int = 3) -> CohortTraining:
    data = images()
    feed = make_feed(data, (0, 1), 100, data.transform("channel", 0, False))
    weights = initialise(of, (0, 1))
    masks = {
        tensor.name: torch.rand(2, *tensor.shape, generator=torch.Generator().manual_seed(1)) < 0.5
        for tensor in of.prunable
    }
    how = recipe(
        steps=steps,
        optimizer=SGD(learning_rate=0.1, momentum=0.9, weight_decay=0.1),
        clip_norm=0.5,
    )
    return CohortTraining(of, how, feed, Start(weights, initial_buffers(of, (0, 1)), of.masks(masks)), stack).advance()


@pytest.mark.parametrize("stack", [True, False])
def test_frozen_weights_stay_to_the_bit_and_of_their_type(stack: bool) -> None:
    described = network("Frozen", "glorot_normal")
    assert {slot.name for slot in described.layout.slots}.isdisjoint(described.frozen)
    before = initial_buffers(described, (0, 1))
    result = trained(described, stack)

    assert described.frozen == {"layers.3.weight", "layers.3.bias", "doubles", "halves", "whole"}
    for name in described.frozen:
        assert result.buffers[name].dtype == before[name].dtype
        assert torch.equal(result.buffers[name], before[name])
    assert not torch.equal(before["layers.3.weight"][0], before["layers.3.weight"][1])  # each seed's own
    assert not torch.equal(result.weights, initialise(described, (0, 1)))
    again = initial_buffers(described, (0, 1), "reinit/level 1", 2)
    assert all(torch.equal(again[name], before[name]) for name in described.frozen)


@pytest.mark.parametrize("stack", [True, False])
def test_shared_weights_are_zero_in_every_use_and_the_module_keeps_its_own(stack: bool) -> None:
    described = network("Shared")
    own = {name: tensor.clone() for name, tensor in described.module.state_dict().items()}
    result = trained(described, stack)

    assert described.stackable
    assert "a.weight" in {slot.name for slot in described.layout.slots}
    assert not {"b.weight", "again.weight", "scores.weight"} & {slot.name for slot in described.layout.slots}
    assert (result.weights[~result.state.mask] == 0).all()
    assert torch.equal(result.buffers["norm.num_batches_tracked"], torch.tensor([6, 6]))  # twice in each step
    after = described.module.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in own.items())
    assert first_names(described.module)["again.weight"] == "a.weight"


def test_stacked_and_in_turn_agree_on_shared_weights() -> None:
    stacked, in_turn = trained(network("Shared"), True), trained(network("Shared"), False)
    assert torch.allclose(stacked.weights, in_turn.weights, atol=1e-5)


@pytest.mark.parametrize("stack", [True, False])
def test_numbers_without_axes_and_buffers_that_are_bound_anew(stack: bool) -> None:
    result = trained(network("Scalars"), stack)

    assert torch.equal(result.buffers["steps"], torch.tensor([3, 3]))
    assert torch.equal(result.buffers["features.1.num_batches_tracked"], torch.tensor([3, 3]))
    views = result.network.layout.views(result.weights)
    assert views["scale"].shape == (2,)
    assert views["empty"].shape == (2, 0, 3)
    saved = result.checkpoint()
    restored = trained(network("Scalars"), stack, steps=3).restore(saved)
    assert torch.equal(restored.weights, result.weights)


def test_calling_with_other_tensors_leaves_no_trace() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.last: torch.Tensor | None = None
            self.register_buffer("nothing", None)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.last = self.new = self.layer(x)
            self.nothing = x
            return self.last

    module = Keeps()
    trained_ones, _ = trained_and_held(module)
    zero = {name: torch.zeros_like(tensor) for name, tensor in trained_ones.items()}

    assert (call(module, zero, torch.ones(1, 2)) == 0).all()
    assert module.last is None
    assert module.nothing is None
    assert not hasattr(module, "new")
    assert torch.equal(module.layer.weight, trained_ones["layer.weight"])
