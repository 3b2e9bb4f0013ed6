"""Trainings in progress: saved now and then, gone on from to the bit, forgotten once they are committed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lth.arms import Ticket
from lth.data import ImageData, load_dataset
from lth.engine import CohortTraining, Trained
from lth.errors import StoreError
from lth.experiment import Experiment, load_experiment
from lth.store import Store, Unit
from lth.sweep import checkpointing, stages
from lth.sweep.arrays import to_arrays
from lth.sweep.handover import Job, Masks
from lth.sweep.planning import Work, work
from lth.sweep.setup import DataFacts
from lth.sweep.stages import train

SEEDS = (0, 1, 2, 5)
STEPS = 40
UNITS = ["pruning.remove=units", "pruning.criterion=l1", "model.arguments.hidden=[32, 16]"]


class Lost(Exception):
    """The machine is gone."""


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_dataset("digits")


@pytest.fixture
def job(digits: ImageData, tmp_path: Path) -> Job:
    """Level 0 of `smoke`, saved after every step."""
    return job_of(load_experiment("smoke"), digits, tmp_path)


def job_of(experiment: Experiment, digits: ImageData, folder: Path) -> Job:
    return Job(experiment, DataFacts.of(digits), Store(folder).url, "cpu", 1, "1.0", save_every=1e-9)


WORK = Work(Unit("ticket", 0, 0, SEEDS), SEEDS, ())


@pytest.fixture(autouse=True)
def saving_may_take_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointing, "SHARE", 1e9)


def steps_trained(
    monkeypatch: pytest.MonkeyPatch, lose: Callable[[int, tuple[int, ...]], bool] = lambda *_: False
) -> list[tuple[int, tuple[int, ...]]]:
    """(step, seeds) of every step that is trained from now on; the machine is lost after one for which `lose` says
    so, once its save is written."""
    trained: list[tuple[int, tuple[int, ...]]] = []
    advance = CohortTraining.advance

    def counted(self: CohortTraining, *arguments: Any, on_step: Callable[[], None], **others: Any) -> CohortTraining:
        def step() -> None:
            on_step()
            trained.append((self.step, self.feed.seeds))
            if lose(self.step, self.feed.seeds):
                raise Lost

        return advance(self, *arguments, on_step=step, **others)

    monkeypatch.setattr(CohortTraining, "advance", counted)
    return trained


def interrupted(
    job: Job,
    data: ImageData,
    lose: Callable[[int, tuple[int, ...]], bool],
    work: Work = WORK,
    pruned: Masks | None = None,
) -> Ticket:
    """The ticket of a training that was lost after that step."""
    ticket = stages.rewind_unit(job, work, data, pruned).result
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Lost):
        steps_trained(patch, lose)
        stages.train_unit(job, work, ticket, data)
    return ticket


def same(one: Trained, other: Trained) -> None:
    ours, theirs = to_arrays(one), to_arrays(other)
    assert ours.keys() == theirs.keys()
    for name in ours.keys() - {"seconds"}:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_a_lost_training_goes_on_where_it_was_saved_and_ends_the_same(
    job: Job, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = interrupted(job, digits, lambda step, _: step == 23)
    trained, told = steps_trained(monkeypatch), []
    again = stages.train_unit(job, WORK, ticket, digits, told.append)
    assert [step for step, _ in trained] == list(range(24, STEPS + 1))
    assert sum(told) == STEPS * len(SEEDS)  # what was saved counts as done
    same(again.result, stages.train_unit(replace(job, save_every=None), WORK, ticket, digits).result)


def test_seconds_spent_before_count_for_the_training_and_not_for_this_run(
    job: Job, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = interrupted(job, digits, lambda step, _: step == 23)
    state: dict[str, Any] = {}
    read = Store.read_progress

    def slow(self: Store, *arguments: Any) -> Any:
        found = read(self, *arguments)
        assert found is not None and 0 < found["seconds"].item() < 60
        found["seconds"] += 1000
        state.update(found)
        return found

    monkeypatch.setattr(Store, "read_progress", slow)
    stage = stages.train_unit(job, WORK, ticket, digits)
    assert state["state/step"] == 23
    assert float(stage.result.seconds.sum()) > 1000 > 60 > sum(stage.seconds.values())


def test_parts_that_were_finished_are_not_trained_again(
    job: Job, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three blocks: 0 and 1, 2 and 5 here, the machine lost in the second."""
    width = job.setup.network.layout.width * 4 * 5
    monkeypatch.setattr(train, "CPU_BLOCK_BYTES", 2 * width)
    ticket = interrupted(job, digits, lambda step, seeds: seeds == (2, 5) and step == 3)
    trained = steps_trained(monkeypatch)
    again = stages.train_unit(job, WORK, ticket, digits)
    assert trained == [(step, (2, 5)) for step in range(4, STEPS + 1)]
    same(again.result, stages.train_unit(replace(job, save_every=None), WORK, ticket, digits).result)


@pytest.mark.parametrize(
    "settings", [["training.optimizer.kind=sgd", "training.optimizer.momentum=0.9"], ["pruning.criterion=movement"]]
)
def test_every_part_of_a_state_is_saved(settings: list[str], digits: ImageData, tmp_path: Path) -> None:
    job = job_of(load_experiment("smoke", settings), digits, tmp_path)
    ticket = interrupted(job, digits, lambda step, _: step == 31)
    again = stages.train_unit(job, WORK, ticket, digits)
    same(again.result, stages.train_unit(replace(job, save_every=None), WORK, ticket, digits).result)


def test_networks_without_their_removed_units_go_on_too(digits: ImageData, tmp_path: Path) -> None:
    job = job_of(load_experiment("smoke", UNITS), digits, tmp_path)
    first = stages.rewind_unit(job, WORK, digits).result
    trained = stages.train_unit(job, WORK, first, digits).result
    done = stages.evaluate_unit(job, WORK, trained, digits).done
    todo = work(job.experiment, Unit("ticket", 0, 1, SEEDS), {("ticket", 0, 0, seed): done[seed] for seed in SEEDS})
    pruned = stages.prune_unit(job, todo, digits).result
    ticket = interrupted(job, digits, lambda step, _: step == 12, todo, pruned)
    again = stages.train_unit(job, todo, ticket, digits)
    same(again.result, stages.train_unit(replace(job, save_every=None), todo, ticket, digits).result)


@pytest.mark.parametrize("other", [{"code_version": "1.1"}, {"threads": 2}])
def test_other_code_and_other_threads_begin_anew(
    other: dict[str, Any], job: Job, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = interrupted(job, digits, lambda step, _: step == 23)
    trained = steps_trained(monkeypatch)
    stages.train_unit(replace(job, **other), WORK, ticket, digits)
    assert trained[0][0] == 1


def test_other_code_of_the_users_begins_anew(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_arms.py").write_text("SLOPE = 1\n")
    job = job_of(load_experiment("smoke", ["imports=[my_arms]"]), digits, tmp_path / "store")
    ticket = interrupted(job, digits, lambda step, _: step == 23)
    (tmp_path / "my_arms.py").write_text("SLOPE = 2\n")
    checkpointing._sources.cache_clear()  # the next run is another process
    trained = steps_trained(monkeypatch)
    stages.train_unit(job, WORK, ticket, digits)
    assert trained[0][0] == 1


def test_another_mask_begins_anew(job: Job, digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = interrupted(job, digits, lambda step, _: step == 23)
    mask = ticket.masks["1.weight"].clone()
    mask[0, 0, 0] = False
    trained = steps_trained(monkeypatch)
    stages.train_unit(job, WORK, replace(ticket, masks={**ticket.masks, "1.weight": mask}), digits)
    assert trained[0][0] == 1


def test_a_damaged_save_begins_anew(job: Job, digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = interrupted(job, digits, lambda step, _: step == 23)
    (key,) = job.store.objects.sizes("progress")
    data = bytearray(job.store.read(key) or b"")
    data[-5] ^= 1
    job.store.objects.replace(key, bytes(data))
    trained = steps_trained(monkeypatch)
    stages.train_unit(job, WORK, ticket, digits)
    assert trained[0][0] == 1


def test_a_store_that_refuses_a_save_does_not_stop_the_training(
    job: Job, digits: ImageData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise StoreError("no room")

    monkeypatch.setattr(Store, "put_progress", refuse)
    ticket = stages.rewind_unit(job, WORK, digits).result
    assert len(stages.train_unit(job, WORK, ticket, digits).result.seconds) == len(SEEDS)
    assert "a training in progress could not be saved: no room" in caplog.text


def test_a_commit_forgets_its_saves_and_no_others(job: Job, digits: ImageData) -> None:
    others = [Unit("ticket", 0, 0, (1, 2)), Unit("ticket", 0, 1, SEEDS), Unit("reinit", 0, 0, SEEDS)]
    for unit in (WORK.unit, *others):
        for seeds in (SEEDS, SEEDS[:2]):
            job.store.put_progress(job.experiment.id, unit, Unit(unit.arm, 0, unit.level, seeds), {}, "x")
    ticket = stages.rewind_unit(job, WORK, digits).result
    trained = stages.train_unit(job, WORK, ticket, digits).result
    stages.evaluate_unit(job, WORK, trained, digits)
    assert job.store.units_in_progress(job.experiment.id) == {unit.name for unit in others}
    assert len(job.store.objects.sizes("progress")) == 6


def test_nothing_is_saved_where_nothing_is_to_be(job: Job, digits: ImageData) -> None:
    ticket = stages.rewind_unit(job, WORK, digits).result
    stages.train_unit(replace(job, save_every=None), WORK, ticket, digits)
    stages.train_unit(replace(job, save_every=3600.0), WORK, ticket, digits)
    assert not job.store.objects.sizes("progress")


@pytest.fixture
def saved_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are saved after, by a clock of our own: a save takes 3 s and a step 1 s."""
    now, saved = [0.0], []
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: now[0])

    def put(self: Store, name: str, unit: Unit, part: Unit, state: dict[str, Any], origin: str) -> None:
        saved.append(int(state["state/step"]))
        now[0] += 3

    monkeypatch.setattr(Store, "put_progress", put)
    advance = CohortTraining.advance

    def timed(self: CohortTraining, *arguments: Any, on_step: Callable[[], None], **others: Any) -> CohortTraining:
        def step() -> None:
            now[0] += 1
            on_step()

        return advance(self, *arguments, on_step=step, **others)

    monkeypatch.setattr(CohortTraining, "advance", timed)
    return saved


def test_saving_takes_no_more_than_its_share_of_the_time(
    job: Job, digits: ImageData, saved_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 10%, 30 s lie between the saves."""
    monkeypatch.setattr(checkpointing, "SHARE", 0.1)
    ticket = stages.rewind_unit(job, WORK, digits).result
    stages.train_unit(replace(job, save_every=5.0), WORK, ticket, digits)
    assert saved_at == [5, 35]


@pytest.mark.parametrize(
    ("slots", "steps"), [(1, [20]), (2, [10, 20, 30]), (5, list(range(4, 40, 4))), (100, [*range(3, 39, 3), 39])]
)
def test_a_short_unit_is_saved_in_parts_two_for_every_slot(
    slots: int, steps: list[int], job: Job, digits: ImageData, saved_at: list[int]
) -> None:
    """So that a flow that is killed costs half a unit, on up to eight slots; more than sixteen saves are too many."""
    ticket = stages.rewind_unit(job, WORK, digits).result
    stages.train_unit(replace(job, save_every=60.0, slots=slots), WORK, ticket, digits)
    assert saved_at == steps


def test_saves_of_short_units_lie_apart_too(
    job: Job, digits: ImageData, saved_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointing, "SHORTEST", 12.0)
    ticket = stages.rewind_unit(job, WORK, digits).result
    stages.train_unit(replace(job, save_every=60.0, slots=100), WORK, ticket, digits)
    assert saved_at == [12, 24, 36]
