"""Data that are legal and hardly meant: `plan`, the verdicts, the report and the artifact say so."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lth.experiment import load_experiment
from lth.store import Store
from lth.sweep.here import run_here

GAPS = "The labels 0, 10, 30 are not numbered without gaps: they are 3 classes in this order."


def write(file: Path, labels: list[int]) -> None:
    generator, images = np.random.default_rng(0), []
    for label in labels:
        buffer = io.BytesIO()
        Image.fromarray(generator.integers(label, label + 99, (4, 4), dtype=np.uint8)).save(buffer, "PNG")
        images.append({"bytes": buffer.getvalue()})
    pq.write_table(pa.table({"image": images, "label": labels}), file)


def test_caveats_of_the_data_reach_whoever_reads_the_results(  # type: ignore[no-untyped-def]
    lth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LTH_DATA_DIR", str(tmp_path))
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "train.parquet", [0, 10, 30] * 20)
    write(tmp_path / "set" / "test.parquet", [0, 10, 30] * 4)
    (tmp_path / "gaps.yaml").write_text(
        "preset: smoke\nname: gaps\ndataset: {name: parquet, path: set, validation: 12}\narms: [ticket]\n"
        "training: {duration: 6it, evaluate_every: 3it, batch_size: 8}\npruning: {levels: 1}\n"
    )
    status, out, errors = lth("plan", "gaps.yaml")
    assert status == 0 and f"caveat: {GAPS}" in out, errors

    experiment = load_experiment("gaps.yaml")
    store = Store(tmp_path / "lth-store")
    run_here(experiment, (0, 1), store, experiment.dataset.load())
    assert store.describe(experiment.id)["data"] == {
        "input_shape": [1, 4, 4], "classes": 3, "examples": 60, "target": "class", "caveats": [GAPS],
    }  # fmt: skip
    assert f"- {GAPS}" in lth("verdicts", "gaps.yaml")[1]
    assert lth("report", "gaps.yaml", "--output", "report.html")[0] == 0
    assert f"<li>{GAPS}</li>" in (tmp_path / "report.html").read_text()

    from flows.results import results_of
    from lth.report import verdict_markdown

    found = results_of(store, experiment.id)
    assert found is not None and found.notes == [GAPS]
    assert f"- {GAPS}" in verdict_markdown(found.verdicts, notes=found.notes)


def test_ordinary_data_have_none(lth, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert "caveat" not in lth("plan", "smoke", "--seeds", "0")[1]
