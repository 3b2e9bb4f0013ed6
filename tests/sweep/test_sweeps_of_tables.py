"""Tables from end to end: trained, pruned, judged by their own score, taken away in every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.metrics import r2_score, roc_auc_score

import lth
import lth.results
from lth.data import data_root
from lth.errors import InvalidExperiment
from lth.experiment import Experiment, load_experiment
from lth.store import Store
from lth.sweep.extraction import collect
from lth.sweep.here import run_here
from lth.sweep.setup import DataFacts, resolve
from lth.tickets import FORMATS, save

SHORT = ["training.duration=60it", "pruning.levels=2", "arms=[ticket, reinit]"]
FRAMINGHAM = "dataset={name: table, path: framingham, target: label, validation: 400}"
RARE = [FRAMINGHAM, "objective={kind: classification, score: auroc}", "name=framingham"]


def swept(folder: Path, preset: str, *settings: str, seeds: tuple[int, ...] = (0, 1)) -> tuple[Experiment, Store]:
    experiment, store = load_experiment(preset, [*SHORT, *settings]), Store(folder)
    run_here(experiment, seeds, store, experiment.dataset.load())
    return experiment, store


@pytest.mark.parametrize(("preset", "score"), [("breast-cancer", "accuracy"), ("diabetes", "r2")])
def test_a_preset_learns_and_its_tables_name_the_score(tmp_path: Path, preset: str, score: str) -> None:
    experiment, store = swept(tmp_path, preset)
    rows = lth.results.open(store.url).levels.to_pylist()
    assert len(rows) == 2 * (1 + 2 * 2) and {row["score"] for row in rows} == {score}
    least = {"accuracy": 0.9, "r2": 0.2}[score]
    assert all(row["test_score_at_early_stop"] > least for row in rows)
    assert all((row["test_accuracy"] is None) == (score != "accuracy") for row in rows)
    assert experiment.id.startswith(preset)


def test_r2_of_the_tables_is_that_of_the_exported_network_in_the_targets_own_unit(tmp_path: Path) -> None:
    experiment, store = swept(tmp_path, "diabetes")
    ticket, data = collect(store, experiment.id, 1, 2), experiment.dataset.load()
    test = data.examples().test
    with torch.no_grad():
        answers = ticket.deployed()(test["features"].float()).squeeze(1)
    target = test["target"].numpy()
    assert target.min() > 25 and target.max() < 350 and answers.min() > 25  # in the units of the target
    assert r2_score(target, answers) == pytest.approx(ticket.card.test_score, abs=1e-4)
    assert ticket.card.test_score == ticket.card.test_score_here


@pytest.mark.parametrize("preset", ["breast-cancer", "diabetes"])
def test_every_format_of_a_table_gives_the_same_answers(tmp_path: Path, preset: str) -> None:
    experiment, store = swept(tmp_path / "store", preset)
    ticket = collect(store, experiment.id, 0, 1)
    save(ticket, tmp_path / "out", tuple(FORMATS))
    rows = experiment.dataset.load().examples().test["features"][:7].float()
    with torch.no_grad():
        expected = ticket.deployed()(rows)
        again = lth.load_ticket(tmp_path / "out").deployed()(rows)
        programs = [
            torch.export.load(tmp_path / "out" / name).module()(rows) for name in ("ticket.pt2", "ticket-dense.pt2")
        ]
    session = onnxruntime.InferenceSession((tmp_path / "out" / "ticket.onnx").read_bytes())
    (found,) = session.run(None, {"columns": rows.numpy()})
    for answers in (again, *programs, torch.from_numpy(found)):
        torch.testing.assert_close(answers, expected, rtol=1e-4, atol=1e-4)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| 0 | " in card and ("R²" in card) == (preset == "diabetes")


@pytest.mark.skipif(not (data_root() / "framingham").is_dir(), reason="LTH_DATA_DIR has no framingham")
def test_a_rare_class_with_missing_values_is_judged_by_auroc(tmp_path: Path) -> None:
    experiment, store = swept(tmp_path, "breast-cancer", *RARE, seeds=(0,))
    ticket, test = collect(store, experiment.id, 0, 1), experiment.dataset.load().examples().test
    assert bool(test["features"].isnan().any())
    with torch.no_grad():
        logits = ticket.deployed()(test["features"].float())
    assert roc_auc_score(test["target"], logits[:, 1] - logits[:, 0]) == pytest.approx(ticket.card.test_score, abs=1e-6)
    metrics = lth.results.open(store.url).metrics.to_pylist()
    # It is no sum over batches: what is known of a training's batches is their loss.
    assert all((row["score_value"] is None) == (row["split"] == "train") for row in metrics)
    assert np.isfinite([row["loss"] for row in metrics]).all()


@pytest.mark.parametrize(
    ("preset", "setting", "said"),
    [
        ("diabetes", "objective.kind=classification", "the target of this data set is a number; set objective.kind to"),
        ("breast-cancer", "objective={kind: regression}", "is one of 2 classes; set objective.kind to classification"),
    ],
)
def test_an_objective_that_the_target_does_not_have_is_refused(preset: str, setting: str, said: str) -> None:
    experiment = load_experiment(preset, [setting])
    with pytest.raises(InvalidExperiment, match=said):
        resolve(experiment, DataFacts.of(experiment.dataset.load()))
