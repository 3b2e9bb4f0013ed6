"""Scopes of a user's own: a rule, and nothing else."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import pytest

from lth.data import load_dataset
from lth.errors import InvalidExperiment
from lth.experiment import load_experiment
from lth.models import PrunableTensor
from lth.pruning import SCOPES, ladder
from lth.store import Store
from lth.sweep.here import run_here
from lth.sweep.setup import DataFacts, resolve

MINE = '''\
"""Scopes of my own."""

from fractions import Fraction

from lth.pruning import register_scope


@register_scope("open_end", "the output layer at a quarter, all others against one another")
def open_end(tensors, density):
    """Fixes the output layer only."""
    return {tensor.name: Fraction(1, 4) for tensor in tensors if tensor.output}, {}


@register_scope("thirds", "the first layer at a third of the others' density")
def thirds(tensors, density):
    """Ratios for every layer."""
    return {}, {tensor.name: Fraction(1 if tensor is not tensors[0] else Fraction(1, 3)) for tensor in tensors}


@register_scope("both", "a ratio for the output layer, and a competition: that does not go together")
def both(tensors, density):
    """A mistake."""
    return {}, {tensor.name: Fraction(1) for tensor in tensors if tensor.output}
'''
TENSORS = [
    PrunableTensor("a", (10, 20), "dense", False),
    PrunableTensor("b", (10, 10), "dense", False),
    PrunableTensor("out", (4, 10), "dense", True),
]


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_scopes.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_scopes", raising=False)
    monkeypatch.setattr(SCOPES, "_entries", dict(SCOPES._entries))
    load_experiment("smoke", ["imports=my_scopes"])


def test_counts_by_hand() -> None:
    """Of 340 weights half remain: 170. The output layer keeps 10 of 40, the two others 160 together."""
    half = [Fraction(1, 2)] * 3
    assert ladder(TENSORS, half, 1, "open_end")[1] == {"out": 10, "": 160}
    # 200 e / 3 + 100 e + 40 e = 170 has e = 0.8226: 54.8, 82.3 and 32.9, rounded so that they add up to 170.
    assert ladder(TENSORS, half, 1, "thirds")[1] == {"a": 55, "b": 82, "out": 33}
    assert ladder(TENSORS, half, 0, "open_end") == [{"a": 200, "b": 100, "out": 40}]


def test_a_rule_that_cannot_be_is_refused_and_named() -> None:
    with pytest.raises(InvalidExperiment, match=r"pruning.scope 'both' says of out what leaves 170 weights to a, b"):
        ladder(TENSORS, [Fraction(1, 2)] * 3, 1, "both")
    with pytest.raises(InvalidExperiment, match="'open_end' says of out what leaves -5 weights to a, b"):
        ladder(TENSORS, [Fraction(335, 340)] * 3, 1, "open_end")
    with pytest.raises(InvalidExperiment, match="scope layer or global"):
        load_experiment("smoke", ["pruning={remove: units, criterion: l1, scope: thirds}"])


def test_a_sweep_with_it(tmp_path: Path) -> None:
    data = load_dataset("digits")
    settings = ["imports=my_scopes", "pruning.scope=open_end", "pruning.fraction=0.5", "arms=[ticket, random_mask]"]
    experiment, store = load_experiment("smoke", [*settings, "pruning.levels=1"]), Store(tmp_path / "store")
    run_here(experiment, (0, 1), store, data, device="cpu")
    where = store.committed(experiment.id).where
    masks = store.read_masks(experiment.id, {seed: where["ticket", 0, 1, seed] for seed in (0, 1)})
    counts = resolve(experiment, DataFacts.of(data)).counts[1]
    assert set(counts) == {"3.weight", ""}
    assert [int(mask.sum()) for mask in masks["3.weight"]] == [counts["3.weight"]] * 2 == [40, 40]
    assert [int(mask.sum()) for mask in masks["1.weight"]] == [counts[""]] * 2
