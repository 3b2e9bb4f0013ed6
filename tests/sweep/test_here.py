"""A sweep in this process: it shares units with other sweeps, goes on where it was cut short, tells how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stored_tables import tables_of

from lth.data import ImageData, load_dataset
from lth.errors import InvalidExperiment, LthError
from lth.experiment import Execution, Experiment, load_experiment
from lth.store import Store, Unit
from lth.sweep.here import run_here, sweep_here
from lth.sweep.progress import LISTENER, Event, Notice, Planned, Steps, UnitChanged
from lth.sweep.seconds import Seconds


def smoke(*settings: str) -> Experiment:
    return load_experiment("smoke", settings)


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_dataset("digits")


@pytest.fixture
def events() -> Iterator[list[Event]]:
    seen: list[Event] = []
    token = LISTENER.set(seen.append)
    yield seen
    LISTENER.reset(token)


def test_it_says_what_it_does_and_where_the_time_went(tmp_path: Path, events: list[Event]) -> None:
    seconds, store = Seconds(), Store(tmp_path)
    done = sweep_here(smoke("arms=[ticket, reinit]"), (0, 1, 2), store, Execution(), seconds)
    assert len(done) == 3 * 5
    planned = [event for event in events if isinstance(event, Planned)]
    assert planned == [Planned(15, 0, 5, 1, 15 * 40)]
    assert [event.trained for event in events if isinstance(event, Steps)][-1] == 15 * 40
    changed = [(event.unit.arm, event.unit.level, event.what) for event in events if isinstance(event, UnitChanged)]
    order = [("ticket", 0), ("ticket", 1), ("reinit", 1), ("ticket", 2), ("reinit", 2)]
    assert changed == [(*place, what) for place in order for what in ("started", "committed")]
    split = seconds.split()
    assert split["wall"] == pytest.approx(sum(spent for name, spent in split.items() if name != "wall"), abs=0.01)
    assert min(split[name] for name in ("start", "training", "evaluation", "storage", "pruning")) > 0

    events.clear()
    assert sweep_here(smoke("arms=[ticket, reinit]"), (0, 1, 2), store, Execution()) == done
    assert not [event for event in events if isinstance(event, UnitChanged)]
    assert not store.objects.sizes("claims")


def test_a_unit_that_another_sweep_is_at_is_left_to_it_and_done_here_once_it_is_given_back(
    tmp_path: Path, digits: ImageData
) -> None:
    experiment, store, alone = smoke("arms=[ticket]", "pruning.levels=1"), Store(tmp_path / "a"), Store(tmp_path / "b")
    first = Unit("ticket", 0, 0, (0,))
    ended: list[Unit] = []
    said: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Notice):
            said.append(event.text)
        if isinstance(event, UnitChanged) and event.what == "committed":
            ended.append(event.unit)
            if len(ended) == 2:  # seed 1 at both levels: nothing else can be done
                other.give_back(first.name)

    token = LISTENER.set(listen)
    try:
        with store.claims(experiment.id) as other:
            assert other.take(first.name) is None
            run_here(experiment, (0, 1), store, digits, cohort_size=1)
    finally:
        LISTENER.reset(token)
    assert [(unit.level, unit.seeds) for unit in ended] == [(0, (1,)), (1, (1,)), (0, (0,)), (1, (0,))]
    assert len(said) == 1 and str(other.owner) in said[0]
    run_here(experiment, (0, 1), alone, digits)
    assert tables_of(store, experiment) == tables_of(alone, experiment)
    assert not store.objects.sizes("claims")


def test_it_goes_on_from_where_it_was_saved(
    tmp_path: Path, digits: ImageData, events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    experiment = smoke("arms=[ticket]", "pruning.levels=0", "training.duration=3000it", "training.evaluate_every=100it")
    store, alone = Store(tmp_path / "a"), Store(tmp_path / "b")

    def stop(event: Event) -> None:
        if isinstance(event, Steps) and event.trained >= 2 * 2000:
            raise KeyboardInterrupt

    token = LISTENER.set(stop)
    with pytest.raises(KeyboardInterrupt):
        run_here(experiment, (0, 1), store, digits, save_every=0.05)
    LISTENER.reset(token)
    assert store.units_in_progress(experiment.id) and not store.committed(experiment.id).where
    events.clear()
    run_here(experiment, (0, 1), store, digits, save_every=0.05)
    assert [event.resumed for event in events if isinstance(event, Planned)] == [1]
    assert [message for message in caplog.messages if "goes on from step" in message]
    run_here(experiment, (0, 1), alone, digits)
    assert tables_of(store, experiment) == tables_of(alone, experiment)
    assert not store.units_in_progress(experiment.id) and not store.objects.sizes("claims")


def test_a_damaged_object_is_set_aside_when_it_is_found_and_the_next_run_mends_it(
    tmp_path: Path, digits: ImageData
) -> None:
    experiment, store, alone = smoke("arms=[ticket, reinit]"), Store(tmp_path / "a"), Store(tmp_path / "b")
    run_here(smoke("arms=[ticket]", "pruning.levels=1"), (0,), store, digits)
    victim = next((tmp_path / "a" / "masks").glob("*/ticket-L01*"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1  # its size does not tell
    victim.write_bytes(bytes(content))
    with pytest.raises(LthError, match=r"ticket-L01.* was damaged and has been set aside; run again"):
        run_here(experiment, (0,), store, digits)
    run_here(experiment, (0,), store, digits)
    run_here(experiment, (0,), alone, digits)
    assert tables_of(store, experiment) == tables_of(alone, experiment)


@pytest.mark.parametrize("option", [{"cores": 2}, {"gpu_share": 0.5}])
def test_options_that_are_rays_are_refused(tmp_path: Path, option: dict[str, Any]) -> None:
    with pytest.raises(InvalidExperiment, match="cores and gpu_share are Ray's"):
        sweep_here(smoke(), (0,), Store(tmp_path), Execution(**option))
