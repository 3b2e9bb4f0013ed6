"""A criterion for units of a user's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from lth.data import load_dataset
from lth.errors import InvalidExperiment, LthError
from lth.experiment import load_experiment
from lth.store import Store
from lth.structured import UNIT_CRITERIA, Slices, UnitGroup, register_unit_criterion, unit_scores
from lth.sweep.here import run_here

MINE = '''\
"""Criteria of my own."""

from lth.structured import register_unit_criterion


@register_unit_criterion("largest", "the largest |w| of the weights that write the unit")
def largest(weights):
    """As far as a unit's strongest weight reaches."""
    return weights.abs().amax(2)
'''
GROUP = UnitGroup("a", 3, (Slices("a", 0, torch.arange(3)[:, None]),), (), (), ())
ALIVE = [torch.ones(1, 3, dtype=torch.bool)]


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UNIT_CRITERIA, "_entries", dict(UNIT_CRITERIA._entries))


def test_a_sweep_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_units.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_units", raising=False)
    units = "pruning={remove: units, criterion: largest, fraction: 0.5, levels: 1}"
    experiment = load_experiment("smoke", ["imports=my_units", units, "arms=[ticket]"])
    store = Store(tmp_path / "store")
    run_here(experiment, (0,), store, load_dataset("digits"), device="cpu")
    rows = store.committed(experiment.id).rows.to_pylist()
    assert {(row["criterion"], row["status"]) for row in rows} == {("largest", "ok")}
    scores = unit_scores([GROUP], ALIVE, {"a": torch.tensor([[[1.0, -4.0], [2.0, 2.0], [0.0, 3.0]]])}, "largest")
    assert scores[0].tolist() == [[4.0, 2.0, 3.0]]


def test_what_it_asks_for_and_answers_is_checked() -> None:
    with pytest.raises(InvalidExperiment, match="'odd' asks for 'gradient', which no unit has; there is weights, rem"):

        @register_unit_criterion("odd", "mine")
        def odd(gradient: torch.Tensor) -> torch.Tensor:
            return gradient

    @register_unit_criterion("flat", "mine")
    def flat(weights: torch.Tensor) -> torch.Tensor:
        return weights.sum((1, 2))

    with pytest.raises(LthError, match=r"'flat' answers \[1\] for the units of 'a'; .* \[1, 3\]"):
        unit_scores([GROUP], ALIVE, {"a": torch.ones(1, 3, 2)}, "flat")
