"""What the commands print, on a small store made once."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from lth.data import load_dataset
from lth.experiment import load_experiment
from lth.rewinding import REWINDS
from lth.store import Store
from lth.sweep.here import run_here


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    experiment, store = load_experiment("smoke"), Store(folder / "lth-store")
    run_here(experiment, (0, 1, 2, 3, 4), store, load_dataset("digits"))
    store.put_sweep(experiment.id, {"seeds": "0-5", "levels": 2, "arms": ["ticket:1", "reinit:1", "random_mask:1"]})
    return folder / "lth-store"


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "lth-store")
    return tmp_path / "lth-store"


def test_run_again_finds_everything_committed_and_shows_it(lth, store: Path) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = lth("run", "smoke")
    assert status == 0 and "all 35 trainings are committed" in out
    assert "ticket" in out and "random_mask" in out and "52.2%" in out and "n = 5" in out
    pictures = sorted(path.name for path in (store / "reports").rglob("*.png"))
    assert pictures == ["accuracy.png", "early-stop.png"]


def test_figures_can_also_go_into_a_folder(lth, store: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert lth("run", "smoke", "--figures", str(tmp_path / "here"))[0] == 0
    assert (tmp_path / "here" / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_plan_counts_what_is_missing_and_starts_nothing(lth, store: Path) -> None:  # type: ignore[no-untyped-def]
    before = sorted(path for path in store.rglob("*") if path.is_file())
    status, out, _ = lth("plan", "smoke", "--seeds", "0-6", "--cohort-size", "2", "--cores", "2")
    assert status == 0
    assert "49 planned, 35 committed, 14 to do" in out
    # seeds 5 and 6 are missing, in blocks (4, 5) and (6): two units at each of 7 places
    assert "14 of up to 2 seeds" in out and "task runs" in out and "KB" in out
    assert before == sorted(path for path in store.rglob("*") if path.is_file())


def test_status_tells_planned_committed_and_diverged(lth, store: Path) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = lth("status", "smoke")
    assert status == 0 and "35 of 42 trainings committed, 0 diverged" in out and "5/6" in out
    assert lth("status")[1] == out


def test_query_in_every_format(lth, store: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    sql = "SELECT arm, count(*) AS n FROM levels GROUP BY arm ORDER BY arm"
    assert "random_mask" in lth("query", sql)[1]
    expected = [{"arm": "random_mask", "n": 10}, {"arm": "reinit", "n": 10}, {"arm": "ticket", "n": 15}]
    for form in ("csv", "json", "parquet"):
        target = tmp_path / f"out.{form}"
        assert lth("query", sql, "--format", form, "--output", str(target))[0] == 0
        if form == "csv":
            assert target.read_text().splitlines() == ['"arm","n"', *(f'"{row["arm"]}",{row["n"]}' for row in expected)]
        elif form == "json":
            assert json.loads(target.read_text()) == expected
        else:
            assert pq.read_table(io.BytesIO(target.read_bytes())).to_pylist() == expected


def test_a_mistake_in_sql_is_one_message_that_names_the_tables(lth, store: Path) -> None:  # type: ignore[no-untyped-def]
    status, _, errors = lth("query", "SELECT * FROM level")
    assert status == 1 and "level" in errors and "levels" in errors and "Traceback" not in errors


def test_query_joins_all_three_tables(lth, store: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    sql = (
        "SELECT l.weights_remaining = sum(m.remaining) AS same, "
        "(SELECT count(*) FROM metrics) > 100 AS many FROM levels l "
        "JOIN masks m USING (experiment_id, arm, draw, level, seed) "
        "GROUP BY l.weights_remaining, l.arm, l.seed, l.level"
    )
    lth("query", sql, "--format", "json", "--output", str(tmp_path / "o.json"))
    found = json.loads((tmp_path / "o.json").read_text())
    assert len(found) == 35 and all(row["same"] and row["many"] for row in found)


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("presets", ["digits", "lenet-mnist", "conv6-cifar10", "smoke"]),
        ("datasets", ["cifar100", "svhn", "parquet"]),
        ("models", ["mlp", "lenet5", "conv4"]),
        ("criteria", ["magnitude"]),
        ("arms", ["ticket", "reinit", "random_mask"]),
        ("unit-criteria", ["l1", "l2", "bn_scale"]),
        ("evidence", ["hessian_gradient", "movement"]),
        ("objectives", ["classification", "regression"]),
        ("optimizers", ["adamw", "sgd"]),
        ("rewinds", ["fine_tune", "learning_rate"]),
        ("schedules", ["cosine_restarts"]),
        ("scopes", ["smart_ratio"]),
        ("scores", ["auroc"]),
        ("experiments", ["smoke-", "mlp on digits", "seeds 0-5"]),
    ],
)
def test_list(lth, store: Path, what: str, expected: list[str]) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = lth("list", what)
    assert status == 0 and all(name in out for name in expected)


def test_list_names_those_of_a_module_of_ones_own(lth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "my_listed.py").write_text(
        "from dataclasses import dataclass\nfrom lth.rewinding import RewindToInit, register_rewind\n"
        '@register_rewind("again", "As it began.")\n@dataclass(frozen=True)\nclass Again(RewindToInit): ...\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(REWINDS, "_entries", dict(REWINDS._entries))
    status, out, _ = lth("list", "rewinds", "--imports", "my_listed")
    assert status == 0 and "As it began." in out and "fine_tune" in out


def test_show_prints_an_experiment_that_reads_back_as_itself(lth, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = lth("show", "lenet-mnist", "--levels", "3")
    (tmp_path / "again.yaml").write_text(out)
    assert status == 0 and load_experiment(str(tmp_path / "again.yaml")) == load_experiment(
        "lenet-mnist", ["pruning.levels=3"]
    )


def test_ctrl_c_stops_cleanly_says_how_to_resume_and_loses_nothing(tmp_path: Path) -> None:
    """As a terminal does it: the whole process group is interrupted in the middle, Prefect's and Ray's processes too.

    Nothing of it is left running, and the store resumes.
    """
    command = [
        str(Path(sys.executable).parent / "lth"),
        "run",
        "smoke",
        "--seeds",
        "0-1",
        "--cores",
        "2",
        "--set",
        "training.duration=4000it",
        "--set",
        "training.evaluate_every=1000it",
    ]
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect")}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children: list[psutil.Process] = []
    store = Store(tmp_path / "lth-store")
    experiment = load_experiment("smoke", ["training.duration=4000it", "training.evaluate_every=1000it"])
    for _ in range(600):
        if process.poll() is not None or store.committed(experiment.id).where:
            break
        time.sleep(0.2)
    assert process.poll() is None, process.communicate()
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, (out, errors)
    assert "Stopped." in out and "lth run smoke --seeds 0-1 --cores 2 --set training.duration=4000it" in out
    assert "Traceback" not in out + errors
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    kept = len(store.committed(experiment.id).where)
    assert 0 < kept < 14
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=280)
    assert len(store.committed(experiment.id).where) == 14
