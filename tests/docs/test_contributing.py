"""CONTRIBUTING.md is true: its map is that of the folders, and every recipe on it runs and does what it says."""

from __future__ import annotations

import importlib
import inspect
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import lth.results
from lth.catalogue import REGISTRIES, registry_of
from lth.engine import OPTIMIZERS
from lth.engine.schedules import SCHEDULES, rate_at
from lth.experiment import Experiment, load_experiment
from lth.objectives import OBJECTIVES, SCORES
from lth.results import Results
from lth.store import Store
from lth.sweep.extraction import collect
from lth.sweep.here import run_here

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
RECIPE = re.compile(r"^### How to add (?:an? )?([\w ]+)\n(.*?)```python\n(.*?)```\n\n```yaml\n(.*?)```", re.M | re.S)
RECIPES = {name: (code, settings) for name, _, code, settings in RECIPE.findall(PAGE)}
SEEDS = (0, 1)


class Ran:
    """A tiny sweep of a recipe, and its results."""

    def __init__(self, store: Store, experiment: Experiment) -> None:
        self.store, self.experiment = store, experiment
        self.results: Results = lth.results.open(store.url, experiment.id)

    def rows(self, arm: str = "ticket", level: int = 1) -> list[dict[str, Any]]:
        rows = self.results.levels.to_pylist()
        return sorted(
            (row for row in rows if (row["arm"], row["level"]) == (arm, level)), key=lambda each: each["seed"]
        )

    def curve(
        self, column: str, arm: str = "ticket", level: int = 0, split: str = "val"
    ) -> dict[int, dict[int, float]]:
        """seed -> step -> what was measured."""
        curves: dict[int, dict[int, float]] = {seed: {} for seed in SEEDS}
        for row in self.results.metrics.sort_by("step").to_pylist():
            if (row["arm"], row["level"], row["split"]) == (arm, level, split):
                curves[row["seed"]][row["step"]] = row[column]
        return curves

    def masks(self, level: int = 1) -> dict[str, torch.Tensor]:
        """Tensor -> bool [seeds, *shape]."""
        where = self.store.committed(self.experiment.id).where
        masks = self.store.read_masks(self.experiment.id, {seed: where["ticket", 0, level, seed] for seed in SEEDS})
        return {name: torch.from_numpy(mask) for name, mask in masks.items()}


@pytest.fixture(autouse=True)
def nothing_stays_registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Registries, modules and the path are afterwards what they were."""
    for registry in (registry_of(what) for what in REGISTRIES):
        for entries in ("_entries", "_definitions"):
            monkeypatch.setattr(registry, entries, dict(getattr(registry, entries)))
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield
    for module in {name for name in sys.modules if name.startswith("my_")} - before:
        del sys.modules[module]


def run(part: str, folder: Path, *settings: str) -> Ran:
    """The recipe as a module and a YAML file, run with two seeds and one level; all its trainings must be well."""
    code, text = RECIPES[part]
    module = re.search(r"imports: \[(\w+)\]", text).group(1)  # type: ignore[union-attr]
    assert code.startswith(f'"""{module}.py: ')
    (folder / f"{module}.py").write_text(code)
    (folder / "experiment.yaml").write_text(text)
    arms = [] if "arms:" in text else ["arms=[ticket]"]
    experiment = load_experiment(str(folder / "experiment.yaml"), ["pruning.levels=1", *arms, *settings])
    store = Store(folder / "store")
    run_here(experiment, SEEDS, store, experiment.dataset.load(), device="cpu")
    ran = Ran(store, experiment)
    assert {row["status"] for row in ran.results.levels.to_pylist()} == {"ok"}
    return ran


def test_the_map_is_that_of_the_folders() -> None:
    mapped = re.findall(r"^- `([\w/]+)/`: \S", PAGE, re.MULTILINE)
    packages = {f"lth/{path.parent.name}" for path in (ROOT / "lth").glob("*/__init__.py")}
    folders = {"flows", "tasks", "infra", "benchmarks", "docs", "tests", "examples"}
    assert len(mapped) == len(set(mapped)) and set(mapped) == packages | folders
    assert all((ROOT / folder).is_dir() for folder in mapped)


def test_every_part_has_a_room_a_contract_and_a_recipe() -> None:
    table = re.findall(r"^\| ([\w ]+) \| `(lth/[\w/]+)/` \| `([\w.]+)` \|$", PAGE, re.MULTILINE)
    parts = {part for part, _, _ in table}
    assert parts - {"score"} == set(RECIPES)  # the score is the objective's
    irregular = {"criteria": "criterion", "unit-criteria": "unit criterion", "evidence": "evidence"}
    irregular |= {"datasets": "data set", "mask-sources": "mask source"}
    assert parts == {irregular.get(what, what.removesuffix("s")) for what in REGISTRIES}
    for _, room, contract in table:
        module, _, name = contract.rpartition(".")
        promise = getattr(importlib.import_module(module), name)
        assert (ROOT / room).is_dir() and len(str(inspect.getdoc(promise))) > 80
    contracts = {contract for _, _, contract in table}
    for what in REGISTRIES:
        contract = registry_of(what).contract
        assert f"{contract.__module__}.{contract.__qualname__}" in contracts  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["make test", "make lint", "make gates", "make services"])
def test_commands_are_those_of_the_makefile(command: str) -> None:
    assert command in PAGE and f"\n{command.removeprefix('make ')}:" in (ROOT / "Makefile").read_text()


def test_a_criterion(tmp_path: Path) -> None:
    ran = run("criterion", tmp_path)
    dense = collect(ran.store, ran.experiment.id, 0, 0, weights="end", device="cpu")
    for name, mask in ran.masks().items():
        changed = dense.trained[name].sign() != dense.initial[name].sign()
        pruned = int((~mask[0]).sum())
        assert changed.sum() > 0 and int((changed & mask[0]).sum()) == max(int(changed.sum()) - pruned, 0)
    assert {row["criterion"] for row in ran.rows()} == {"kept_sign"}


def test_an_arm(tmp_path: Path) -> None:
    ran = run("arm", tmp_path)
    assert [row["mask_sha256"] for row in ran.rows("halved")] == [row["mask_sha256"] for row in ran.rows()]
    ticket, halved = ran.curve("loss", level=1), ran.curve("loss", "halved", level=1)
    for seed in SEEDS:  # smaller weights are closer to knowing nothing of ten classes
        assert abs(halved[seed][0] - math.log(10)) < abs(ticket[seed][0] - math.log(10))


def test_a_model(tmp_path: Path) -> None:
    ran = run("model", tmp_path)
    assert {(row["model"], row["weights_total"]) for row in ran.rows()} == {
        ("wide_and_deep", 64 * 8 + (64 + 8) * 10),
    }
    assert {name: tuple(mask.shape[1:]) for name, mask in ran.masks().items()} == {
        "hidden.weight": (8, 64),
        "output.weight": (10, 72),
    }


def test_a_data_set(tmp_path: Path) -> None:
    ran = run("data set", tmp_path)
    assert {(row["dataset"], row["weights_total"]) for row in ran.rows()} == {("circle", 2 * 16 + 16 * 2)}
    assert min(row["test_accuracy"] for row in ran.rows(level=0)) > 0.75  # over half are outside: 0.53


def test_an_objective_and_its_score(tmp_path: Path) -> None:
    ran = run("objective", tmp_path)
    objective = OBJECTIVES["smoothed"](smoothing=0.2)
    outputs, targets = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]).log_softmax(1), torch.tensor([1, 2])
    # log(e^2 + e + 1) = 2.4076: losses are 1.4076 and 2.4076, their mean over the classes is 1.4076.
    by_hand = torch.tensor([0.8 * 1.4076 + 0.2 * 1.4076, 0.8 * 2.4076 + 0.2 * 1.4076])
    torch.testing.assert_close(objective.losses(outputs[None], targets[None])[0], by_hand, rtol=0, atol=1e-4)
    torch.testing.assert_close(objective.loss(outputs, targets), by_hand.mean(), rtol=0, atol=1e-4)
    sums = SCORES["top2"].sums_of(outputs[None], targets[None])
    assert SCORES["top2"].from_sums(sums, 2).tolist() == [0.5]
    rows = ran.rows(level=0) + ran.rows()
    assert {row["score"] for row in rows} == {"top2"} == set(ran.results.verdicts["score"].to_pylist())
    assert all(row["test_accuracy"] is None and 0.8 < row["test_score"] <= 1 for row in rows)


def test_an_optimizer(tmp_path: Path) -> None:
    ran = run("optimizer", tmp_path)
    lion = OPTIMIZERS["lion"]()
    weights, gradient = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([3.0, -0.1, 0.0])
    moments = lion.moments(weights)
    lion.step(weights, gradient, moments, 0.25)
    assert weights.tolist() == [0.75, 1.25, 0.0]
    torch.testing.assert_close(moments["mean"], gradient / 100)
    assert min(row["test_accuracy"] for row in ran.rows(level=0)) > 0.8


def test_a_schedule(tmp_path: Path) -> None:
    ran = run("schedule", tmp_path)
    schedule = SCHEDULES["inverse_root"](flat=10)
    assert [rate_at(schedule, 0.5, step, 400) for step in (0, 10, 40, 250)] == [0.5, 0.5, 0.25, 0.1]
    constant = load_experiment("smoke", ["pruning.levels=0"])
    run_here(constant, SEEDS, ran.store, constant.dataset.load(), device="cpu")
    for seed, falling in ran.curve("loss").items():
        level = Ran(ran.store, constant).curve("loss")[seed]
        assert falling[10] == level[10] and falling[40] > level[40]


def test_a_watcher(tmp_path: Path) -> None:
    ran = run("watcher", tmp_path)
    for row in ran.rows(level=0):
        curve = ran.curve("accuracy")[row["seed"]]
        last = row["steps"]
        assert last < 40 and list(curve)[-1] == last and curve[last] >= 0.5
        assert all(accuracy < 0.5 for step, accuracy in curve.items() if step < last)


def test_a_rewind(tmp_path: Path) -> None:
    ran = run("rewind", tmp_path)
    assert [[row["steps"] for row in ran.rows(level=level)] for level in (0, 1)] == [[40, 40], [60, 60]]


def test_a_mask_source(tmp_path: Path) -> None:
    ran = run("mask source", tmp_path)
    dense = collect(ran.store, ran.experiment.id, 0, 0, weights="end", device="cpu")
    for name, mask in ran.masks().items():
        middle = ((dense.initial[name] + dense.trained[name]) / 2).abs()
        assert middle[mask[0]].min() > middle[~mask[0]].max()
        trained = dense.trained[name].abs()
        assert trained[mask[0]].min() < trained[~mask[0]].max()


def test_a_scope(tmp_path: Path) -> None:
    masks = run("scope", tmp_path).masks()
    assert masks["3.weight"].all()
    assert masks["1.weight"].sum((1, 2)).tolist() == [829 - 160] * 2  # 0.7 of 1,184 weights are 828.8


def test_a_criterion_for_units(tmp_path: Path) -> None:
    ran = run("unit criterion", tmp_path)
    dense = collect(ran.store, ran.experiment.id, 0, 0, weights="end", device="cpu")
    strongest = dense.trained["1.weight"].abs().amax(1).topk(8).indices
    kept = ran.masks()["1.weight"][0].any(1).nonzero().flatten()
    assert sorted(strongest.tolist()) == kept.tolist()


def test_evidence(tmp_path: Path) -> None:
    ran = run("evidence", tmp_path)
    for mask in ran.masks().values():  # by magnitude alone the output layer, whose weights are larger, would keep more
        assert mask.float().mean().item() == pytest.approx(0.7, abs=0.001)
    assert {row["criterion"] for row in ran.rows()} == {"placed"}
