"""What people really type at the command line: ids in short, nothing at all, a store for an experiment, points."""

from __future__ import annotations

from pathlib import Path

import pytest

from lth.data import load_dataset
from lth.experiment import load_experiment
from lth.store import Store
from lth.sweep.here import run_here


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two seeds of one small experiment, down to level 1."""
    place = Store(tmp_path_factory.mktemp("stores") / "mine")
    experiment = load_experiment("smoke", ["arms=[ticket]", "pruning.levels=1", "training.duration=20it"])
    run_here(experiment, (0, 1), place, load_dataset("digits"))
    return place


@pytest.fixture
def lth(lth, store: Store, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("LTH_STORE", store.url)
    return lth


def test_the_only_experiment_needs_no_name_and_an_id_may_be_short(lth, store: Store, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (identifier,) = store.experiments()
    whole = lth("verdicts", identifier)
    assert whole[0] == 0 and identifier in whole[1]
    digits = identifier.rpartition("-")[2]
    for said in ([], [digits], [digits[:4]], [identifier[:-3]]):
        assert lth("verdicts", *said) == whole
    assert lth("report")[0] == 0 and (tmp_path / f"{identifier}.html").is_file()
    assert lth("status", digits[:6])[1] == lth("status", identifier)[1]


def test_show_prints_what_the_store_says_of_an_id(lth, store: Store) -> None:  # type: ignore[no-untyped-def]
    (identifier,) = store.experiments()
    status, out, _ = lth("show", identifier)
    assert status == 0 and out.startswith(f"# id: {identifier}\n") and "duration: 20it" in out
    assert lth("show", identifier.rpartition("-")[2][:5])[1] == out
    assert "change a preset or a file" in lth("show", identifier, "--levels", "2")[2]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["verdicts", "{id}", "--margin", "5"], "above 0 and below 1; for 5 percentage points write 0.05"),
        (["report", "{id}", "--margin", "0"], "--margin 0 is no margin"),
        (["verdicts", "{id}", "--margin", "nan"], "--margin nan is no margin"),
        (["verdicts", "{id}", "--margin", "-0.01"], "--margin -0.01 is no margin"),
        (["verdicts", "smxke"], "neither a preset, nor a file, nor an experiment of file://"),
        (["verdicts", "smoke-0123456789"], "has no experiment 'smoke-0123456789'; did you mean '{id}'?"),
        (["verdicts", "{store}"], "it is a folder: a store is given with --store"),
        (["run", "{store}"], "it is a folder: a store is given with --store"),
        (["plan", "smoke", "--ticket", "nope"], "--ticket: 'nope' is neither a preset, nor a file, nor an experiment"),
        (["show", "nope"], "'nope' is neither a preset, nor a file, nor an experiment of"),
        (["query", "SELECT 1", "--store", "{id}"], "that looks like an experiment's id, and --store is where"),
    ],
)  # fmt: skip
def test_a_slip_is_one_line_with_a_hint(lth, store: Store, arguments: list[str], wanted: str) -> None:  # type: ignore[no-untyped-def]
    (identifier,) = store.experiments()
    names = {"id": identifier, "store": store.objects.location.root}
    status, _, errors = lth(*(each.format(**names) for each in arguments))
    assert status == 1 and len(errors.strip().splitlines()) == 1
    assert wanted.format(**names) in errors


def test_without_a_name_where_there_are_several_they_are_listed(lth, store: Store, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    status, _, errors = lth("verdicts", "--store", str(tmp_path / "empty"))
    assert status == 1 and "say which experiment of" in errors and "it has none" in errors
