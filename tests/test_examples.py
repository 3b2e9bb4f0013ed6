"""The examples run as they are, write only into the folder that they are given, and print what they should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lth
import lth.results

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def said(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What the example that the test names prints; its folder is tmp_path/out."""
    (tmp_path / "here").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / request.param), str(tmp_path / "out")],
        cwd=tmp_path / "here",
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list((tmp_path / "here").iterdir()) and {path.name for path in (tmp_path / "out").iterdir()} <= {
        "store",
        "ticket",
    }
    return done.stdout


def test_every_example_is_tested_and_says_how_it_is_run() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert scripts == set(re.findall(r'parametrize\("said", \["(\w+\.py)"\]', Path(__file__).read_text()))
    assert all(f"\n\npython examples/{name} [FOLDER]\n" in (EXAMPLES / name).read_text() for name in scripts)


@pytest.mark.parametrize("said", ["notebook_sweep.py"], indirect=True)
def test_a_sweep_as_in_a_notebook(said: str, tmp_path: Path) -> None:
    results = lth.run("smoke", seeds=range(5), store=tmp_path / "out" / "store", progress=False)  # what is there
    assert str(results) in said
    ticket = next(row for row in results.summary.to_pylist() if (row["level"], row["arm"]) == (2, "ticket"))
    assert f"{ticket['test_score_at_early_stop_mean']:.4f}" in said
    assert re.findall(r"^ +([12]) +0\.\d+ +5 .*(?:matching|undecided)$", said, re.MULTILINE) == ["1", "2"]


@pytest.mark.parametrize("said", ["own_network.py"], indirect=True)
def test_a_network_of_ones_own(said: str) -> None:
    assert f"{64 * 24 + 24 * 24 + 24 * 10:,}" in said
    for layer in ("first", "second", "output"):
        densities = re.search(rf"^{layer}\.weight +1\.0+ +(\S+) +(\S+)$", said, re.MULTILINE)
        assert densities is not None and 1 > float(densities[1]) > float(densities[2]) > 0


@pytest.mark.parametrize("said", ["own_criterion.py"], indirect=True)
def test_a_criterion_of_ones_own(said: str) -> None:
    accuracy = {name: float(value) for name, value in re.findall(r"^(\w+) +38\.0% +([\d.]+)%$", said, re.MULTILINE)}
    assert list(accuracy) == ["both_ends", "magnitude", "random"]
    assert accuracy["random"] < min(accuracy["both_ends"], accuracy["magnitude"])


@pytest.mark.parametrize("said", ["read_results.py"], indirect=True)
def test_results_are_read(said: str, tmp_path: Path) -> None:
    levels = lth.results.open(tmp_path / "out" / "store").pandas("levels")
    of_dense = levels[(levels["level"] == 0)]["test_accuracy_at_early_stop"]
    assert re.search(rf"^0 +ticket +3 +{of_dense.mean():.4f} +{of_dense.std():.4f}$", said, re.MULTILINE)
    assert re.findall(r"^(\d+) +[\d.]+ +[\d.]+ +[\d.]+$", said, re.MULTILINE) == ["0", "10", "20", "30", "40"]
    assert "\n7 different masks of tickets" in said  # the full one, and two levels of three seeds


@pytest.mark.parametrize("said", ["export_to_onnx.py"], indirect=True)
def test_a_ticket_in_onnxruntime(said: str, tmp_path: Path) -> None:
    here, stored = re.findall(r"test accuracy in onnxruntime (\S+), in the store (\S+)\n", said)[0]
    assert here == stored and float(here) > 0.5
    card = lth.load_ticket(tmp_path / "out" / "ticket").card
    assert f"{card.weights_remaining:,} of {card.weights_total:,} weights" in said and card.density < 0.3
