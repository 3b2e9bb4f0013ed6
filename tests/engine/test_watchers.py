"""Watchers: one in a file of its own keeps tensors, changes the mask and ends seeds, and is resumed to the bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from small_networks import images, perceptron, recipe, training_of

import lth.results
from lth.engine import CohortState, Watcher
from lth.engine.named_tensors import named_tensors
from lth.engine.optimizers import SGD, Adam
from lth.engine.state import Kept
from lth.engine.watchers import WATCHERS, Change, Evaluation, RewindPoint
from lth.errors import InvalidExperiment, LthError
from lth.experiment import load_experiment
from lth.store import Store
from lth.sweep.extraction import collect
from lth.sweep.here import run_here

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Swap(Watcher):
    """At one step the smallest weight of every row goes, and the last that is gone comes back."""

    name = "swap"
    changes_mask = True
    at: int = 7

    def begin(self, state: CohortState) -> Kept:
        swaps = torch.zeros(state.seeds, dtype=torch.int64, device=state.weights.device)
        return {"swaps": swaps, "weights": state.weights != 0}  # biases begin at zero

    def on_step(self, state: CohortState, kept: Kept) -> Change | None:
        if state.step != self.at:
            return None
        kept["swaps"] += 1
        mask = state.mask.clone()
        for row in range(state.seeds):
            back = int((~state.mask[row]).nonzero()[-1])
            magnitudes = state.weights[row].abs().masked_fill(~state.mask[row] | ~kept["weights"][row], torch.inf)
            mask[row, int(magnitudes.argmin())] = False
            mask[row, back] = True
        return Change(mask=mask)


@dataclass(frozen=True)
class End(Watcher):
    """Ends the seed that stands at a place in the cohort, from its stream alone: here the one whose last bias falls."""

    name = "end"

    def on_evaluation(self, state: CohortState, kept: Kept, evaluation: Evaluation) -> Change | None:
        return Change(end=evaluation.loss < 2.28)


@pytest.mark.parametrize("optimizer", [Adam(learning_rate=0.01), SGD(learning_rate=0.05, weight_decay=1e-3)])
@pytest.mark.parametrize("density", [0.5, 0.1], ids=["all weights", "survivors"])
def test_a_changed_mask_is_that_of_the_weights_and_of_their_moments(density: float, optimizer) -> None:  # type: ignore[no-untyped-def]
    data = images()
    network, plan = perceptron(data), recipe(optimizer, watchers=(Swap(7),))
    training = training_of(network, data, SEEDS, plan, density).advance(6)
    before, start = training.state.mask.clone(), training.weights.clone()
    training.advance(7)
    after = training.state.mask
    assert after.sum(1).equal(before.sum(1)) and ((after != before).sum(1) == 2).all()
    for rows in (training.weights, *(row for row in training.updates.moment_rows().values() if row.ndim == 2)):
        assert not rows[~after].any()  # what is gone
        assert not rows[after & ~before].any()  # what is new begins at zero
    kept = before & after
    assert (training.weights[kept] != start[kept]).float().mean() > 0.2  # and the others went on
    moments = [row for row in training.updates.moment_rows().values() if row.ndim == 2]
    assert all(row[kept].any() for row in moments)
    training.advance(12)
    assert not training.weights[~after].any() and training.weights[after & ~before].any()  # the new ones learn
    result = training.result()
    assert torch.equal(result.mask, after) and result.kept["swap"]["swaps"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("stop", [3, 7, 13])
def test_a_watcher_is_resumed_with_the_state(stop: int) -> None:
    data = images()
    network, plan = perceptron(data), recipe(watchers=(Swap(7), End()))
    through = training_of(network, data, SEEDS, plan, 0.5).advance().result()
    saved = training_of(network, data, SEEDS, plan, 0.5).advance(stop).checkpoint()
    resumed = training_of(network, data, SEEDS, plan, 0.5).restore(saved).advance().result()
    for name, tensor in named_tensors(through).items():
        torch.testing.assert_close(named_tensors(resumed)[name], tensor, rtol=0, atol=0, equal_nan=True, msg=name)


def test_seeds_end_by_themselves_and_a_seed_is_the_same_in_any_cohort() -> None:
    data = images()
    network, plan = perceptron(data), recipe(steps=60, watchers=(Swap(7), End()))
    cohort = training_of(network, data, SEEDS, plan, 0.5).advance().result()
    assert len(set(cohort.last_step.tolist())) > 1  # they end at steps of their own, all at an evaluation
    assert all(step % 6 == 0 or step == 60 for step in cohort.last_step.tolist())
    for row, seed in enumerate(SEEDS):
        alone = training_of(network, data, (seed,), plan, 0.5).advance().result()
        assert int(alone.last_step[0]) == int(cohort.last_step[row])
        for one, other in ((alone.end, cohort.end), (alone.early_stop, cohort.early_stop)):
            assert torch.equal(one.weights[0], other.weights[row])
        steps = int((cohort.curves.steps <= alone.last_step[0]).sum())
        assert torch.equal(alone.curves.validation_loss[0, :steps], cohort.curves.validation_loss[row, :steps])


@dataclass(frozen=True)
class EndAtOnce(Watcher):
    """Ends every seed at its first evaluation."""

    name = "end_at_once"

    def on_evaluation(self, state: CohortState, kept: Kept, evaluation: Evaluation) -> Change | None:
        return Change(end=torch.ones(state.seeds, dtype=torch.bool))


@pytest.mark.parametrize("at", [7, 60], ids=["on the way", "at the last step"])
def test_early_stop_is_a_network_with_the_mask_at_the_end(at: int) -> None:
    data = images()
    # losses only rise from the first step on, so that the lowest of all is of the mask before
    network, plan = perceptron(data), recipe(Adam(learning_rate=1.0), steps=60, watchers=(Swap(at),))
    result = training_of(network, data, SEEDS, plan, 0.5).advance().result()
    assert not result.early_stop.weights[~result.mask].any()
    if at == 7:
        assert (result.early_stop_step > 7).all()


def test_no_seed_ends_before_its_rewind_point_is_kept() -> None:
    data = images()
    network, plan = perceptron(data), recipe(steps=60, watchers=(EndAtOnce(), RewindPoint(step=8)))
    result = training_of(network, data, SEEDS, plan).advance().result()
    assert result.rewind_point is not None
    assert result.last_step.tolist() == [12, 12, 12]  # the first evaluation from step 8 on


OWN = '''"""A watcher of a user's own: half of the weights go while training."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lth.engine import Watcher, register_watcher
from lth.engine.watchers import Change
from lth.settings import Steps, setting


@register_watcher("halve", "prunes the smaller half of what is left, once")
@dataclass(frozen=True)
class Halve(Watcher):
    """Removes the smaller half of the surviving weights of a row at one step."""

    changes_mask: ClassVar[bool] = True
    at: Steps = setting(10, "The step after which half goes.")

    def on_step(self, state, kept):
        if state.step != self.at:
            return None
        mask = state.mask.clone()
        for row in range(state.seeds):
            alive = state.mask[row] & (state.weights[row] != 0)
            middle = state.weights[row][alive].abs().median()
            mask[row] &= ~(alive & (state.weights[row].abs() <= middle))
        return Change(mask=mask)
'''


def test_a_watcher_of_a_users_own_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WATCHERS, "_entries", dict(WATCHERS._entries))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_halve.py").write_text(OWN)
    settings = [
        "imports=[my_halve]",
        "training.watchers=[{kind: halve, at: 15it}]",
        "pruning.levels=0",
        "arms=[ticket]",
    ]
    experiment = load_experiment("smoke", settings)
    assert experiment.id != load_experiment("smoke").id
    store = Store(tmp_path / "store")
    run_here(experiment, (0, 1), store, experiment.dataset.load())
    rows = lth.results.open(store.url).levels.to_pylist()
    dense = [row for row in rows if row["level"] == 0]
    # 1,184 prunable weights; biases count among the 26 others that may go: about half is left of the dense network.
    assert all(0.45 < row["density"] < 0.55 for row in dense) and len({row["mask_sha256"] for row in dense}) == 2
    with pytest.raises(InvalidExperiment, match="'halve' changes masks while networks train: arm 'reinit' would be"):
        load_experiment("smoke", settings[:2])
    with pytest.raises(InvalidExperiment, match="'halve' changes masks of weights; set pruning.remove to weights"):
        load_experiment("smoke", [*settings, "pruning={remove: units, criterion: l1, levels: 0}"])
    with pytest.raises(LthError, match="'halve' of .* changes masks .*: the store holds the mask at the end"):
        collect(store, experiment.id, 0, 0)
    with pytest.raises(InvalidExperiment, match=r"training.watchers.0: kind is one of .*halve.*; got 'thirds'"):
        load_experiment("smoke", [settings[0], "training.watchers=[thirds]"])
    with pytest.raises(InvalidExperiment, match="'halve' appears twice"):
        load_experiment("smoke", [settings[0], "training.watchers=[halve, halve]"])


def test_a_watcher_that_changes_masks_says_so() -> None:
    data = images()

    class Silent(Swap):
        changes_mask = False

    with pytest.raises(LthError, match="say `changes_mask = True`"):
        training_of(perceptron(data), data, (0,), recipe(watchers=(Silent(),)), 0.5).advance()
