"""Evidence of a user's own, with a criterion that asks for it: one file, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from scored_networks import cohort_of, images, masks_of, network_of, perceptron
from torch.nn import functional

from lth.data import load_dataset
from lth.engine import EVIDENCE
from lth.engine.evidence import gather
from lth.experiment import load_experiment
from lth.pruning import CRITERIA
from lth.store import Store
from lth.sweep.here import run_here

MINE = '''\
"""How far the outputs of a seed's network are from its targets, weight by weight."""

import torch

from lth.engine.evidence import gradient, register_evidence, register_rows
from lth.pruning import register_criterion


@register_evidence("first_gradient", "dL/dw of the first batch alone", data=True, batches=True)
def first_gradient(one):
    """The gradient of one batch."""
    inputs, targets = one.batches()[0]
    return gradient(one.module, one.parameters, one.buffers, inputs, targets, one.names, one.loss)


@register_rows("growth", "what training added to each weight")
def growth(cohort):
    """Weights less initial weights."""
    return cohort.weights - cohort.initial


@register_criterion("grown", "|growth| and |dL/dw| together", trained=True)
def grown(growth, first_gradient):
    """Both at once."""
    return growth.abs() + first_gradient.abs()
'''


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_evidence.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_evidence", raising=False)
    for registry in (EVIDENCE, CRITERIA):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))  # type: ignore[attr-defined]
    load_experiment("smoke", ["imports=my_evidence"])


def test_a_sweep_with_it(tmp_path: Path) -> None:
    settings = ["imports=my_evidence", "pruning.criterion=grown", "pruning.scoring.batch_size=20", "arms=[ticket]"]
    experiment, store = load_experiment("smoke", settings), Store(tmp_path / "store")
    run_here(experiment, (0, 1), store, load_dataset("digits"), device="cpu")
    rows = store.committed(experiment.id).rows.to_pylist()
    assert {(row["criterion"], row["status"]) for row in rows} == {("grown", "ok")} and len(rows) == 6


def test_evidence_of_a_loss_is_of_the_loss_that_is_given() -> None:
    """Half the loss has half the gradient, a quarter of its square, and of its Hessian times gradient."""
    network, seeds = network_of(perceptron), (3, 7)
    cohort, mask = cohort_of(network, seeds, images()), network.masks(masks_of(network, seeds))

    def half(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return 0.5 * functional.cross_entropy(outputs, targets)

    needs = {"gradient": 2, "first_gradient": 2, "squared_gradient": 4, "fisher_diagonal": 4, "hessian_gradient": 4}
    whole = gather(needs.keys(), network, seeds, cohort.weights, {}, mask, feed=cohort.feed)
    halved = gather(needs.keys(), network, seeds, cohort.weights, {}, mask, feed=cohort.feed, loss=half)
    for need, times in needs.items():
        for name, tensor in whole[need].items():
            assert tensor.abs().max() > 0
            torch.testing.assert_close(times * halved[need][name], tensor)
