"""`lth status`, `lth verify` and the report name trainings that were not computed alike; `lth run` what has changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lth.sweep import pins

Command = Callable[..., tuple[int, str, str]]

SHORT = ("--here", "--set", "training.duration=20it", "--levels", "0", "--set", "arms=[ticket]")


def test_trainings_with_other_threads_are_counted_wherever_a_store_is_looked_at(
    lth: Command, caplog: pytest.LogCaptureFixture
) -> None:
    assert lth("run", "smoke", "--seeds", "0-1", *SHORT)[0] == 0
    for command in ("status", "verify"):
        assert "computed alike" not in lth(command)[1]
    assert lth("run", "smoke", "--seeds", "0-2", "--threads", "2", *SHORT)[0] == 0
    assert "this sweep trains with --threads 2, and of its committed trainings 2 with 1 were trained" in caplog.text
    status, said, _ = lth("status")
    assert (
        status == 0 and "note: trainings were not all computed alike, and may differ in their last bits: 2 with" in said
    )
    assert ", 1 thread, torch " in said and "; 1 with " in said and ", 2 threads, torch " in said
    status, said, _ = lth("verify")
    assert status == 0 and "trainings were not all computed alike" in said and "nothing wrong" in said
    identifier = said.partition("note: ")[2].partition(":")[0]
    assert lth("report", identifier, "--output", "report.html")[0] == 0
    assert "trainings were not all computed alike" in Path("report.html").read_text()


def test_another_engine_is_one_line_and_an_option_goes_on(lth: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lth("run", "smoke", "--seeds", "0", *SHORT)[0] == 0
    monkeypatch.setattr(pins, "ENGINE_VERSION", "2")
    status, said, error = lth("run", "smoke", "--seeds", "0", *SHORT)
    assert status == 0 and "note: smoke-" in said and "the engine's version is 2, then 1" in said  # nothing to train
    status, _, error = lth("run", "smoke", "--seeds", "0-1", *SHORT)
    assert (
        status == 1 and error.count("\n") == 1 and "the engine's version is 2, then 1; put that back, or go on" in error
    )
    status, said, _ = lth("run", "smoke", "--seeds", "0-1", "--accept-changes", *SHORT)
    assert status == 0
    assert len(list(Path("lth-store/experiments").iterdir())) == 2
