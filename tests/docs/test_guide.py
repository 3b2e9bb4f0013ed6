"""The guide is true: its settings load, and its own criterion, arm, model and data set run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lth.arms import ARMS
from lth.catalogue import REGISTRIES, registry_of
from lth.data import DATASETS, load_dataset
from lth.experiment import load_experiment
from lth.models.registry import MODELS
from lth.pruning import CRITERIA
from lth.store import Store
from lth.sweep.here import run_here
from lth.sweep.setup import DataFacts, resolve

GUIDE = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


SETTINGS = [block for block in blocks("yaml") if "imports" not in block]


@pytest.fixture
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the module of the guide, as a user has it; nothing of it stays behind."""
    (tmp_path / "my_methods.py").write_text("\n\n".join(blocks("python")))
    (tmp_path / "mine.yaml").write_text(next(block for block in blocks("yaml") if "imports" in block))
    monkeypatch.chdir(tmp_path)
    for registry in (ARMS, CRITERIA, DATASETS, MODELS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("my_methods", None)


@pytest.mark.parametrize("block", SETTINGS, ids=[re.search(r"name: (\S+)", block).group(1) for block in SETTINGS])  # type: ignore[union-attr]
def test_every_setting_is_an_experiment_with_a_ladder(block: str, tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(block)
    setup = resolve(load_experiment(str(file)), DataFacts((1, 28, 28), 10, 60_000))
    assert len(setup.counts) > 1


def test_each_of_your_own_takes_less_than_twenty_lines() -> None:
    assert len(blocks("python")) == 4
    assert max(len(block.splitlines()) for block in blocks("python")) < 20


def test_your_own_criterion_arm_model_and_data_set_run(in_a_folder: Path) -> None:
    experiment = load_experiment("mine.yaml")
    store = Store(in_a_folder / "lth-store")
    run_here(experiment, (0, 1), store, load_dataset("stripes"), device="cpu")
    rows = store.committed(experiment.id).rows.to_pylist()
    assert {(row["arm"], row["level"]) for row in rows} == {
        ("ticket", 0),
        *((arm, level) for arm in ("ticket", "flipped") for level in (1, 2)),
    }
    assert {(row["criterion"], row["model"], row["dataset"]) for row in rows} == {("both_ends", "one_conv", "stripes")}
    assert all(row["status"] == "ok" and row["test_accuracy"] > 0.9 for row in rows)


def test_the_guide_names_all_there_is() -> None:
    for what in ("evidence", "criteria", "unit-criteria", "arms", "rewinds", "scopes"):
        for name in registry_of(what):
            assert f"`{name}`" in GUIDE, name
    for what in REGISTRIES:
        assert f"`{what}`" in GUIDE, what
