"""Lottery tickets on real MNIST, against the published claims. `make gates`: under an hour on two cores.

The sweep resumes from its store (LTH_GATES_STORE, else ./gates-store), so an interrupted gate loses nothing. Whatever
comes out is written to docs/results.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from lenet_claims import DENSITY, Claim, accuracy, claims

from lth.data import data_root
from lth.experiment import load_experiment
from lth.report import early_stop_figure, save_png, score_figure
from lth.store import Store

pytestmark = [pytest.mark.gates, pytest.mark.timeout(2 * 3600)]
ROOT = Path(__file__).parents[2]
SETTINGS = ["training.duration=10000it", "pruning.levels=19", "arms=[ticket, reinit, random_mask]"]
BEGIN, END = "<!-- lenet-mnist: begin -->", "<!-- lenet-mnist: end -->"


@pytest.fixture(scope="session")
def levels() -> pa.Table:
    if not (data_root() / "MNIST" / "raw").is_dir():
        pytest.skip(f"MNIST is not in {data_root()}; set LTH_DATA_DIR")
    store = os.environ.get("LTH_GATES_STORE", str(ROOT / "gates-store"))
    command = [
        sys.executable,
        "-c",
        "from flows.cli import main; main()",
        "run",
        "lenet-mnist",
        "--seeds",
        "0-4",
        "--store",
        store,
        *(part for setting in SETTINGS for part in ("--set", setting)),
    ]
    subprocess.run(command, check=True, cwd=ROOT)
    found = Store(store).committed(load_experiment("lenet-mnist", SETTINGS).id).rows
    write_results(found)
    return found


def write_results(levels: pa.Table) -> None:
    """Put what came out into docs/results.md, between its marks, with the pictures beside it."""
    images = ROOT / "docs" / "images"
    images.mkdir(parents=True, exist_ok=True)
    save_png(score_figure(levels), images / "lenet-mnist-accuracy.png")
    save_png(early_stop_figure(levels), images / "lenet-mnist-early-stop.png")
    first = levels.slice(0, 1).to_pylist()[0]
    hours = sum(levels["train_seconds"].to_pylist()) / 3600
    lines = [
        BEGIN,
        "",
        f"Experiment `{first['experiment_id']}`, seeds 0-4 (n = 5), {levels.num_rows} trainings of 10,000 steps "
        f"(published: 50,000), device {first['device']}, {first['threads']} thread a cohort, "
        f"{hours:.2f} core-hours of training, code {first['code_version']}.",
        "",
        "| claim | found: mean [95% t interval] | must be | holds | published |",
        "|---|---|---|---|---|",
        *(
            f"| {claim.number}. {claim.text} | {claim.found} | {claim.bound} | {'yes' if claim.holds else '**no**'} | "
            f"{claim.published} |"
            for claim in claims(levels)
        ),
        "",
        "Test accuracy at early stop in %, mean ± half of the 95% t interval over 5 seeds:",
        "",
        "| density | ticket | re-init | random mask |",
        "|---|---|---|---|",
        f"| 100% (dense) | {accuracy(levels, 'ticket', 0)} | | |",
        *(
            f"| {density} | {accuracy(levels, 'ticket', level)} | {accuracy(levels, 'reinit', level)} | "
            f"{accuracy(levels, 'random_mask', level)} |"
            for level, density in DENSITY.items()
        ),
        "",
        "![accuracy against density](images/lenet-mnist-accuracy.png)",
        "",
        "![early-stop step against density](images/lenet-mnist-early-stop.png)",
        "",
        END,
    ]
    page = ROOT / "docs" / "results.md"
    text = page.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(before + "\n".join(lines) + after)


def test_the_ladder_is_the_published_one_to_the_weight(levels: pa.Table) -> None:
    counts = {row["level"]: row["weights_remaining"] for row in levels.to_pylist()}
    assert {level: counts[level] for level in (0, 1, 3, 7, 9, 15, 16, 19)} == {
        0: 266_200,
        1: 213_060,
        3: 136_511,
        7: 56_094,
        9: 35_981,
        15: 9_537,
        16: 7_650,
        19: 3_958,
    }
    assert levels.num_rows == 5 * (1 + 19 * 3) and set(levels["status"].to_pylist()) == {"ok"}


@pytest.mark.parametrize("position", range(9))
def test_a_published_claim_holds(levels: pa.Table, position: int) -> None:
    claim: Claim = claims(levels)[position]
    assert claim.holds, f"{claim.number}. {claim.text}: {claim.found}, must be {claim.bound}"
