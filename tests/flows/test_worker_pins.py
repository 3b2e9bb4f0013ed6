"""A worker whose code, versions or instructions are not those that the sweep was opened with trains nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lth.errors import LthError
from lth.experiment import load_experiment
from lth.sweep.handover import Job
from lth.sweep.pins import Pins, pins_of
from lth.sweep.setup import DataFacts
from tasks import remote
from tasks.remote import check_pins


def job_of(pins: Pins | None, tmp_path: Path) -> Job:
    experiment = load_experiment("smoke")
    facts = DataFacts.of(experiment.dataset.load())
    return Job(experiment, facts, str(tmp_path), "cpu", pins=pins)


def test_a_worker_with_the_same_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(pins_of(load_experiment("smoke")), tmp_path)
    check_pins(job)
    monkeypatch.setattr(remote, "pins_of", lambda experiment: pytest.fail("asked again"))
    check_pins(job)
    check_pins(job_of(None, tmp_path))


@pytest.mark.parametrize(
    ("opened_with", "said"),
    [
        ({"engine": "0"}, "the engine's version is 1, then 0"),
        ({"torch": "2.1.0"}, "torch is 2.13.0, then 2.1.0"),
        ({"instructions": "SVE256"}, "the CPU's instruction set is .*, then SVE256"),
    ],
)
def test_a_worker_with_something_else_says_what_in_one_line_before_it_trains(
    tmp_path: Path, opened_with: dict[str, str], said: str
) -> None:
    job = job_of(replace(pins_of(load_experiment("smoke")), **opened_with), tmp_path)
    work = None
    with pytest.raises(LthError, match=f"the worker on .* has something else .*: {said}; give every machine") as raised:
        remote.run_stage(lambda *_, **__: pytest.fail("trained"), job, work, None, None, ())  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())
