"""Sweeps that are judged by another score than accuracy: what lands, that a repetition agrees, what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sklearn.metrics import roc_auc_score
from stored_tables import tables_of

import lth.results
from lth.data import load_dataset
from lth.experiment import load_experiment
from lth.objectives import SCORES
from lth.report import claim
from lth.store import Store
from lth.store.verify import verify
from lth.sweep.here import run_here

SHORT = ["training.duration=20it", "training.evaluate_every=10it", "pruning.levels=1", "arms=[ticket]"]


@pytest.mark.parametrize(
    ("preset", "settings", "score", "per_batch", "unit"),
    [
        ("smoke", ["objective={kind: classification, score: auroc}"], "auroc", False, "points"),
        ("diabetes", [], "r2", True, "of R²"),
    ],
)
def test_a_sweep_lands_its_score(
    tmp_path: Path, preset: str, settings: list[str], score: str, per_batch: bool, unit: str
) -> None:
    experiment = load_experiment(preset, [*SHORT, *settings])
    data = load_dataset(experiment.dataset.name, path=experiment.dataset.path)
    store, again = Store(tmp_path / "once"), Store(tmp_path / "again")
    run_here(experiment, (0, 1), store, data)
    run_here(experiment, (1,), again, data)
    run_here(experiment, (0, 1), again, data)
    assert tables_of(store, experiment) == tables_of(again, experiment)
    assert verify(store).findings == ()
    results = lth.results.open(store.url)
    for row in results.levels.to_pylist():
        assert row["score"] == score and row["test_accuracy"] is None and row["test_score"] <= 1
        assert row["train_score"] != row["test_score"] != row["val_score"]
    curves = results.query(
        "SELECT split, score, count(*) AS n, count(score_value) AS held, count(accuracy) AS accuracies FROM metrics "
        "GROUP BY ALL ORDER BY ALL"
    ).to_pylist()
    assert [row["split"] for row in curves] == ["test", "train", "val"]
    for row in curves:  # a score that needs a whole split has none of a batch
        assert row["score"] == score and row["accuracies"] == 0
        assert row["held"] == (row["n"] if per_batch or row["split"] != "train" else 0)
    assert unit in claim(results.verdicts)


def test_auroc_of_a_seed_is_that_of_any_cohort() -> None:
    """To the bit; classes that the split does not hold are left out."""
    generator = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(7, 60, 10, generator=generator), torch.randint(0, 9, (7, 60), generator=generator)
    auroc = SCORES["auroc"].of_split
    assert auroc is not None
    together = auroc(outputs, targets)
    for seed in range(7):
        assert together[seed] == auroc(outputs[seed : seed + 1], targets[seed : seed + 1])[0]
    held = [label for label in range(10) if (targets[0] == label).any()]
    ranked = torch.softmax(outputs[0].double(), 1)
    areas = [roc_auc_score(targets[0] == label, ranked[:, label]) for label in held]
    assert len(held) == 9 and float(together[0]) == pytest.approx(sum(areas) / 9)
    assert auroc(outputs[:1], torch.zeros(1, 60, dtype=torch.int64)).isnan().all(), "one class only"
