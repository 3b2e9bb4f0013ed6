"""`lth run --here`: what `lth run` prints and stores, in one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from stored_tables import tables_of

from lth.data import load_dataset
from lth.experiment import load_experiment
from lth.store import Store
from lth.sweep.here import run_here


def test_it_prints_the_table_the_verdict_and_where_the_time_went(lth, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = lth("run", "smoke", "--here", "--seeds", "0-2", "--figures", "pictures")
    assert status == 0
    assert "21/21 trainings" in out and "units one after another: start " in out and "training " in out
    assert "random_mask" in out and "n = 3" in out and "points down to" in out
    assert (tmp_path / "pictures" / "accuracy.png").is_file()
    experiment, alone = load_experiment("smoke"), Store(tmp_path / "alone")
    run_here(experiment, (0, 1, 2), alone, load_dataset("digits"))
    assert tables_of(Store(tmp_path / "lth-store"), experiment) == tables_of(alone, experiment)
    assert "all 21 trainings are committed" in lth("run", "smoke", "--here", "--seeds", "0-2")[1]


def test_options_that_are_rays_are_refused_in_one_line(lth) -> None:  # type: ignore[no-untyped-def]
    status, _, errors = lth("run", "smoke", "--here", "--cores", "2")
    assert status == 1 and "cores and gpu_share are Ray's" in errors and "Traceback" not in errors


def test_what_cannot_be_trained_is_refused_in_one_line(lth) -> None:  # type: ignore[no-untyped-def]
    status, _, errors = lth("run", "smoke", "--here", "--set", "training.batch_size=3000")
    assert status == 1 and "batch_size is 3000" in errors and "Traceback" not in errors


def test_ctrl_c_stops_it_and_says_how_to_resume(tmp_path: Path) -> None:
    settings = ["training.duration=4000it", "training.evaluate_every=1000it"]
    command = [str(Path(sys.executable).parent / "lth"), "run", "smoke", "--seeds", "0-1", "--here"]
    command += [word for setting in settings for word in ("--set", setting)]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    store, experiment = Store(tmp_path / "lth-store"), load_experiment("smoke", settings)
    for _ in range(600):
        if process.poll() is not None or any((tmp_path / "lth-store" / "levels").glob("*/*.parquet")):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, (out, errors)
    assert "Stopped." in out and "lth run smoke --seeds 0-1 --here --set training.duration=4000it" in out
    assert "Traceback" not in out + errors
    assert 0 < len(store.committed(experiment.id).where) < 14 and not store.objects.sizes("claims")
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=200)
    assert len(store.committed(experiment.id).where) == 14
