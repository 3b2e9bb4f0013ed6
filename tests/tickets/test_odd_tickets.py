"""Tickets of networks with shared, frozen, computed and scalar parameters: in every file they are what was trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lth.data import load_dataset
from lth.errors import LthError
from lth.experiment import load_experiment
from lth.models import build_model
from lth.store import Store
from lth.sweep.extraction import collect
from lth.sweep.here import run_here
from lth.tickets import load_ticket, save

NETWORKS = Path(__file__).parents[1] / "models"


@pytest.mark.parametrize("name", ["Functional", "Shared", "Scalars", "Frozen", "weight_normed"])
def test_files_hold_what_was_trained(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(NETWORKS))
    experiment = load_experiment(
        "smoke",
        [
            f"model={{name: 'odd_networks:{name}'}}",
            "training.duration=6it",
            "training.evaluate_every=3it",
            "training.optimizer.weight_decay=0.1",
            "pruning.levels=1",
            "pruning.fraction=0.6",
            "arms=[ticket, reinit]",
        ],
    )
    store = Store(tmp_path / "store")
    run_here(experiment, (0,), store, load_dataset("digits"))
    inputs = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for level in (0, 1):
        ticket = collect(store, experiment.id, 0, level, weights="end")
        folder = tmp_path / str(level)
        save(ticket, folder, ("safetensors", "csr", "torch", "dense"))
        again = load_ticket(folder)
        held, plain = again.module("trained").eval(), again.module("trained", pruned=False).eval()

        assert torch.allclose(held(inputs), plain(inputs), atol=1e-6)
        assert sum(int(mask.sum()) for mask in ticket.masks.values()) == ticket.card.weights_remaining
        frozen = {each for each, tensor in plain.named_parameters() if not tensor.requires_grad}
        assert all(torch.equal(again.trained[each], again.initial[each]) for each in frozen)
        raw = torch.randint(0, 256, (3, 1, 8, 8)).float()
        for file in ("ticket.pt2", "ticket-dense.pt2"):
            program = torch.export.load(folder / file).module()
            assert torch.allclose(program(raw), ticket.deployed()(raw), atol=1e-4)
        by_hand = build_model(f"odd_networks:{name}", (1, 8, 8), 10)
        state = {each: again.trained[each] for each in by_hand.state_dict()}  # every name that a torch user expects
        by_hand.load_state_dict(state)
        assert torch.equal(by_hand.eval()(inputs), plain(inputs))
        sparse = load_file(folder / "ticket-csr.safetensors")
        for each, mask in ticket.masks.items():
            assert len(sparse[f"{each}/values"]) == int(mask.sum())
        _train(held)
        masked = held.eval()(inputs)
        assert masked.isfinite().all()
        if level and name == "Shared":
            kept = ticket.masks["a.weight"]
            assert kept.float().mean() < 0.5
            for layer in (held.a, held.b, held.again):
                assert (layer.weight[~kept] == 0).all()
            assert held.a.weight_orig is held.b.weight_orig
        if level and name == "Functional":
            assert (held.layer.weight[~ticket.masks["layer.weight"]] == 0).all()
            assert not torch.equal(held.layer.weight, ticket.trained["layer.weight"])  # it has learnt all the same
    reinitialised = collect(store, experiment.id, 0, 1, arm="reinit", weights="end")
    assert all(torch.equal(reinitialised.initial[each], again.initial[each]) for each in frozen)


def _train(module: nn.Module) -> None:
    optimizer = torch.optim.SGD((each for each in module.parameters() if each.requires_grad), 0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        module.train()(torch.randn(8, 1, 8, 8)).square().mean().backward()
        optimizer.step()


def test_weights_of_another_type_are_refused_and_not_cast(tmp_path: Path) -> None:
    experiment = load_experiment("smoke", ["training.duration=6it", "training.evaluate_every=3it", "pruning.levels=0"])
    store = Store(tmp_path / "store")
    run_here(experiment, (0,), store, load_dataset("digits"))
    ticket = collect(store, experiment.id, 0, 0, weights="end")
    name = next(iter(ticket.trained))
    odd = replace(ticket, trained={**ticket.trained, name: ticket.trained[name].to(torch.complex64)})
    with pytest.raises(LthError, match=f"{name} is torch.complex64 and not torch.float32"):
        odd.module("trained")
