"""`lth.run`, the notebook's way in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from stored_tables import tables_of

import lth
import lth.results
from lth.data import load_dataset
from lth.errors import InvalidExperiment
from lth.experiment import load_experiment
from lth.store import Store
from lth.sweep.here import run_here


def test_a_preset_is_run_and_its_results_are_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = lth.run("smoke", range(3), store=tmp_path / "store", settings=["pruning.levels=1"])
    experiment = load_experiment("smoke", ["pruning.levels=1"])
    assert isinstance(results, lth.results.Results)
    assert results.experiment_id == experiment.id and results.experiments == [experiment.id]
    assert results.levels.num_rows == len(results.pandas("levels")) == 3 * (1 + 3)
    rows = results.summary.to_pylist()
    assert [(row["level"], row["arm"]) for row in rows if row["level"] == 0] == [(0, "ticket")] and len(rows) == 4
    assert results.verdicts.num_rows
    assert "52.2%" not in str(results) and "72%" in str(results) and "points down to" in str(results)
    assert "**" in results._repr_markdown_() and "points down to" in results._repr_markdown_()
    said = capsys.readouterr()
    assert not said.out and "12/12 trainings" in said.err

    alone = Store(tmp_path / "alone")
    run_here(experiment, (0, 1, 2), alone, load_dataset("digits"), cohort_size=2)
    assert tables_of(Store(tmp_path / "store"), experiment) == tables_of(alone, experiment)


def test_what_is_there_is_not_done_again_and_more_seeds_extend_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LTH_STORE", str(tmp_path))
    file = tmp_path / "mine.yaml"
    file.write_text("preset: smoke\nname: mine\npruning: {levels: 1}\narms: [ticket]\n")
    experiment = load_experiment(str(file))
    first = lth.run(file, "0-1", progress=False)
    assert first.levels.num_rows == 4 and not capsys.readouterr().err
    assert lth.run(experiment, [0, 1]).levels.equals(first.levels)
    assert "trainings" not in capsys.readouterr().err
    assert lth.run(experiment, (2,), progress=False).levels.num_rows == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": 5}, r"seeds 5 is one number; write range\(5\)"),
        ({"seeds": [1, 1]}, "seed 1 appears twice"),
        ({"seeds": [-1]}, "'-1' cannot be read"),
        ({"seeds": [0.5]}, "'0.5' cannot be read"),
        ({"seeds": []}, "cannot be read"),
        ({"device": "tpu"}, "device"),
        ({"threads": 0}, "threads"),
        ({"source": "smok"}, "smok"),
        ({"source": load_experiment("smoke"), "settings": ["pruning.levels=1"]}, "this is an Experiment already"),
        ({"settings": ["pruning.levels=40", "pruning.fraction=0.9"]}, "would leave layer"),
    ],
    ids=str,
)
def test_mistakes_are_one_line_before_anything_trains(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidExperiment, match=message) as refused:
        lth.run(**{"source": "smoke", "store": tmp_path, "progress": False, **arguments})  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("levels/*/*"))


def test_a_run_without_results_says_so(tmp_path: Path) -> None:
    results = lth.run("smoke", [0], store=tmp_path, settings=["pruning.levels=0"], progress=False)
    results.__dict__["_loaded"]["levels"] = results.levels.slice(0, 0)
    assert (
        str(results)
        == results._repr_markdown_()
        == f"{results.experiment_id}: no training has finished without diverging"
    )


LIGHT = """
import sys
import lth
assert "torch" not in sys.modules and "pydantic" not in sys.modules, "importing lth is light"
lth.run("smoke", [0], store=sys.argv[1], settings=["pruning.levels=0"], progress=False)
sys.argv[1:] = ["run", "smoke", "--here", "--levels", "1", "--seeds", "0", "--store", sys.argv[1]]
from flows.cli import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
heavy = {"prefect", "ray", "sklearn", "torchvision"} & set(sys.modules)
assert not heavy, heavy
"""


def test_neither_prefect_nor_ray_is_imported(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT, str(tmp_path)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(Store(tmp_path).committed(load_experiment("smoke").id).where) == 4
