"""A rewind of a user's own: one file that is imported, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lth.data import load_dataset
from lth.errors import InvalidExperiment
from lth.experiment import load_experiment
from lth.rewinding import REWINDS, register_rewind
from lth.store import Store
from lth.sweep.here import run_here

MINE = '''\
"""Rewinds of my own."""

from dataclasses import dataclass

from lth.rewinding import Retraining, register_rewind
from lth.settings import Steps, setting


@register_rewind("warm", "The weights of an early step, trained from step 0 of the schedule.")
@dataclass(frozen=True)
class Warm:
    """Early weights under the whole schedule."""

    source, trains = "step", True
    early: Steps = setting(5, "Whose weights training starts from.")

    @staticmethod
    def check_experiment(section, experiment):
        if experiment.model.name != "mlp":
            raise ValueError("rewinding 'warm' is for mlps")

    @property
    def kept_step(self):
        return self.early

    def retraining(self, recipe):
        return Retraining(0, recipe)
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_rewinds.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_rewinds", raising=False)
    monkeypatch.setattr(REWINDS, "_entries", dict(REWINDS._entries))
    return "imports=my_rewinds"


def first_validation(store: Store, identifier: str, step: int) -> list[tuple[int, float]]:
    """(seed, validation loss) of the tickets of level 1 at a step."""
    import lth.results

    rows = lth.results.open(store.url, identifier).query(
        f"SELECT seed, loss FROM metrics WHERE arm = 'ticket' AND level = 1 AND split = 'val' AND step = {step} "
        "ORDER BY seed"
    )
    return [(row["seed"], row["loss"]) for row in rows.to_pylist()]


def test_a_sweep_with_a_rewind_of_ones_own(mine: str, tmp_path: Path) -> None:
    store, data, settings = Store(tmp_path / "store"), load_dataset("digits"), ["arms=[ticket, reinit]"]
    own = load_experiment("smoke", [mine, *settings, "rewinding={kind: warm, early: 7it}"])
    late = load_experiment("smoke", [*settings, "rewinding={kind: step, step: 7it}"])
    assert own.rewinding.model_dump() == {"kind": "warm", "early": "7it"} and own.id != late.id
    for experiment in (own, late):
        run_here(experiment, (0, 1), store, data, device="cpu")

    begun = first_validation(store, own.id, 0)  # the same weights and masks, at another step of the schedule
    assert begun == first_validation(store, late.id, 7) and [seed for seed, _ in begun] == [0, 1]
    rows = store.committed(own.id).rows.to_pylist()
    assert {row["steps"] for row in rows} == {40} and {row["status"] for row in rows} == {"ok"}


def test_its_defaults_checks_and_fields_are_those_of_any_other(mine: str) -> None:
    assert load_experiment("smoke", [mine, "rewinding.kind=warm"]).rewinding.model_dump()["early"] == "5it"
    for settings, words in (
        (["rewinding.kind=warm", "model={name: conv2}"], "'warm' is for mlps"),
        (["rewinding={kind: warm, late: 5it}"], "rewinding.late: no such field"),
        (["rewinding={kind: warm, early: soon}"], "'soon' is not a duration"),
        (["rewinding.kind=warm", "pruning.when=at_initialisation"], "set rewinding.kind to init, not 'warm'"),
        (["rewinding.kind=cold"], "fine_tune, init, learning_rate, none, step, warm"),
    ):
        with pytest.raises(InvalidExperiment, match=words):
            load_experiment("smoke", [mine, *settings])


def test_a_source_that_there_is_not_is_refused_where_it_is_registered() -> None:
    with pytest.raises(InvalidExperiment, match="rewind 'odd' has the source 'best'; it is one of"):

        @register_rewind("odd", "From the best weights.")
        class Odd:
            source = "best"
