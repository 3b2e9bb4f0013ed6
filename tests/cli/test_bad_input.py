"""Every mistake of a user is answered with one clear line, before anything starts, and without a stack trace."""

from __future__ import annotations

from pathlib import Path

import pytest

YAML_TAG = "name: x\nmodel: !!python/object/apply:os.system ['true']\n"


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started for a command that cannot run")

    import ray

    monkeypatch.setattr(ray, "init", refuse)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "digit"], ["'digit'", "did you mean 'digits'"]),
        (["run", "digits", "--set", "training.durations=5it"], ["training.durations", "training.duration"]),
        (["run", "digits", "--set", "dataset.name=mnits"], ["'mnits'", "mnist"]),
        (["run", "digits", "--set", "model.name=mpl"], ["'mpl'", "mlp"]),
        (["run", "digits", "--set", "arms=[ticket, random]"], ["'random'", "random_mask"]),
        (["run", "digits", "--levels", "-1"], ["pruning.levels", "-1"]),
        (["run", "digits", "--set", "pruning.fraction=0"], ["pruning.fraction", "0"]),
        (["run", "digits", "--set", "pruning.fraction.dense=1"], ["pruning.fraction.dense", "1"]),
        (["run", "digits", "--set", "pruning.fraction=1.5"], ["pruning.fraction", "1.5"]),
        (["run", "digits", "--set", "rewinding={kind: step, step: 601it}"], ["rewinding.step", "601it", "600it"]),
        (["run", "digits", "--set", "rewinding={kind: step, step: 60ep}"], ["rewinding.step", "599"]),
        (["run", "digits", "--seeds", "-1"], ["-1"]),
        (["run", "digits", "--seeds", "3-1"], ["3-1", "1-3"]),
        (["run", "digits", "--seeds", "0-3,2"], ["seed 2", "twice"]),
        (["run", "digits", "--seeds", "0-999999"], ["1,000,000 seeds", "37,000,000 trainings", "units", "--yes"]),
        (["run", "digits", "--levels", "40", "--set", "pruning.fraction=0.9"], ["level 5", "'1.weight'", "empty"]),
        (["run", "digits", "--set", "training.batch_size=2000"], ["batch_size", "2000", "1197"]),
        (["run", "digits", "--set", "name=../escape"], ["name", "../escape"]),
        (["run", "digits", "--set", "training"], ["--set", "'training'", "key=value"]),
        (["run", "digits", "--threads", "300"], ["threads", "300"]),
        (["run", "digits", "--cohort-size", "200000"], ["cohort_size", "200000"]),
        (["run", "digits", "--ticket", "mnist-0123456789"], ["no experiment 'mnist-0123456789'", "it has none"]),
        (["run", "digits", "--save-every", "100000"], ["save_every", "100000"]),
        (["run", "digits", "--device", "tpu"], ["'tpu'", "auto, cpu or cuda"]),
        (["run", "digits", "--set", "model.name=no_such_package:net"], ["no_such_package"]),
        (["run", "digits", "--set", "model.name=math:sqrt"], ["math:sqrt"]),
        (["run", "digits", "--set", "model.name=os:getcwd"], ["os:getcwd", "torch.nn.Module"]),
        (["run", "tag.yaml"], ["tag.yaml", "Python"]),
        (["run", "digits", "--store", "file.txt/store"], ["file.txt"]),
        (["run", "digits", "--store", "ftp://somewhere/else"], ["ftp"]),
        (["run", "digits", "--store", "s3://AKIAKEY:PLANTEDSECRET@bucket/x"], ["s3", "AWS_SECRET_ACCESS_KEY"]),
        (["plan", "digits", "--set", "dataset={name: parquet, path: ../secrets}"], ["../secrets"]),
        (["status", "digits"], ["has not been started"]),
        (["query", "SELECT * FROM levels"], ["no store", "lth-store"]),
        (["show", "digits", "--set", "margin=2"], ["margin", "2"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_one_clear_line(lth, tmp_path: Path, arguments: list[str], expected: list[str]) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "tag.yaml").write_text(YAML_TAG)
    (tmp_path / "file.txt").write_text("a file, not a folder")
    status, _, errors = lth(*arguments)
    assert status == 1
    lines = [line for line in errors.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), errors
    for part in expected:
        assert part in lines[0]
    assert "Traceback" not in errors and "PLANTEDSECRET" not in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "digits", "--no-such-option"],
        ["fly"],
        ["list", "planets"],
        ["run", "digits", "--levels", "many"],
    ],
    ids=" ".join,
)
def test_wrong_calls_are_answered_with_usage(lth, arguments: list[str]) -> None:  # type: ignore[no-untyped-def]
    status, _, errors = lth(*arguments)
    assert status == 2 and "Usage" in errors and "Traceback" not in errors


def test_a_store_object_that_is_damaged_is_named_and_the_rest_stays_readable(lth, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from lth.data import load_dataset
    from lth.experiment import load_experiment
    from lth.store import Store
    from lth.sweep.here import run_here

    experiment = load_experiment("smoke", ["arms=[ticket]"])
    run_here(experiment, (0,), Store(tmp_path / "lth-store"), load_dataset("digits"))
    victim = next((tmp_path / "lth-store" / "levels").glob("*/ticket-L01*"))
    victim.write_bytes(b"not parquet")
    status, out, errors = lth("query", "SELECT count(*) AS n FROM levels", "--format", "csv")
    assert status == 0 and out.split() == ['"n"', "2"] and victim.name in errors
    status, out, _ = lth("status")
    assert status == 0 and "2 of 3 trainings committed" in out and victim.name in out


def test_a_ray_cluster_that_does_not_answer_is_named(tmp_path: Path) -> None:
    from lth.errors import LthError
    from tasks.cluster import connected

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        with pytest.raises(LthError, match="RAY_ADDRESS=127.0.0.1:1"), connected():
            pass


def test_a_prefect_server_that_does_not_answer_is_named(lth, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    import os
    import subprocess
    import sys

    found = subprocess.run(
        [str(Path(sys.executable).parent / "lth"), "run", "smoke", "--seeds", "0"],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PREFECT_API_URL": "http://user:PLANTEDSECRET@127.0.0.1:1/api"},
        check=False,
    )
    lines = [line for line in found.stderr.splitlines() if line.strip()]
    assert found.returncode == 1 and len(lines) == 1 and "PREFECT_API_URL" in lines[0], found.stderr
    assert "PLANTEDSECRET" not in found.stdout + found.stderr
