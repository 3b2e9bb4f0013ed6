"""Networks of every nature are either right, to the bit, or refused in one line before anything trains."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pytest

import lth.results
from lth.data import load_dataset
from lth.data.examples import DataSet
from lth.errors import InvalidExperiment
from lth.experiment import Experiment, load_experiment
from lth.inspection.sketch import Sketch
from lth.report import report_page
from lth.store import Store
from lth.sweep.handover import Job
from lth.sweep.here import run_here
from lth.sweep.inspecting import inspected
from lth.sweep.network_texts import notes, shares
from lth.sweep.networks import network_of
from lth.sweep.setup import DataFacts

HERE = Path(__file__).parent
RIGHT = [
    "drawn_by_numpy",
    "drawn_by_python",
    "RandomBranch",
    "NoiseByNumpy",
    "Dropout",
    "DropoutAlways",
    "FixedNoise",
    "CountsForItself",
    "CountsInABuffer",
    "LastAttention",
    "ChangesItsInput",
    "NormTwice",
    "LayerTwice",
    "HeldInEvaluation",
    "LooksAtValues",
    "ShapesOfValues",
    "Attention",
]
BUILT = "built twice from one seed, it is another network: {} differs; draw from torch's global generator"
REPEATED = "its forward pass is not repeatable: {} run twice from one seed has another"
NO_GRADIENT = "no gradient of the loss reaches its weights"
SHARED = "built twice, both networks hold the same 'first.weight', so that one seed would train another's"
REFUSED = {
    "drawn_by_an_own_generator": BUILT.format("'first.weight'"),
    "drawn_by_an_own_torch_generator": BUILT.format("'second.weight'"),
    "drawn_by_the_system": BUILT.format("'first.weight'"),
    "seeded_by_the_clock": BUILT.format("'first.weight'"),
    "counts_its_calls": BUILT.format("'first.weight'"),
    "the_same_every_time": SHARED,
    "with_a_layer_of_all": SHARED,
    "another_layer_every_time": BUILT.format("'extra'"),
    "OwnGenerator": REPEATED.format("a training step"),
    "OwnGlobalGenerator": REPEATED.format("a training step"),
    "NoiseOfTheSystem": REPEATED.format("a training step"),
    "ByTheClock": REPEATED.format("a training step"),
    "CountsPasses": REPEATED.format("a training step"),
    "KeepsItsWeights": REPEATED.format("a training step"),
    "MeanOfThePast": REPEATED.format("an evaluation"),
    "ChangesLater": "its forward pass counts in 'passes' and depends on the count, which no checkpoint keeps",
    "Detached": NO_GRADIENT,
    "NoGradient": NO_GRADIENT,
    "Chosen": NO_GRADIENT,
    "NotFinite": "it is not finite at the start: its answer in evaluation mode",
    "OneBatchSize": "does not run on inputs of shape (1, 8, 8)",
    "EvenBatches": "it does not run on 237 examples at a time in evaluation mode (the last batch of the training",
    "DropsTheRest": "it answers 237 examples in evaluation mode (the last batch of the training split) with (100, 10)",
    "MovesAway": "does not run on inputs of shape (1, 8, 8)",
}


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load_dataset("digits")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(HERE))
    yield
    sys.modules.pop("hostile_networks", None)


def experiment(name: str, *settings: str) -> Experiment:
    own = (f"model.name=hostile_networks:{name}", "model.arguments={}", "model.initialisation=own", f"name={name}")
    return load_experiment("smoke", [*own, "training.duration=6it", "training.evaluate_every=2it", *settings])


def rows_of(store: Store, sweep: Experiment) -> list[tuple[object, ...]]:
    """Every measurement: arm, seed, level, step, split, loss and score."""
    rows = store.read_table(store.committed(sweep.id), "metrics")[0].to_pylist()
    names = ("arm", "seed", "level", "step", "split", "loss", "accuracy")
    return sorted(tuple(row[name] for name in names) for row in rows)


@pytest.mark.parametrize("name", RIGHT)
def test_it_begins_alike_at_every_level_and_has_the_same_bits_in_any_cohort(
    name: str, digits: DataSet, tmp_path: Path
) -> None:
    sweep = experiment(name, "pruning.fraction=0.0001", "arms=[ticket]")
    together, apart = Store(tmp_path / "together"), Store(tmp_path / "apart")
    run_here(sweep, (0, 1), together, digits)
    run_here(sweep, (1,), apart, digits)
    run_here(sweep, (0,), apart, digits)

    metrics, _ = together.read_table(together.committed(sweep.id), "metrics")
    starts = metrics.filter((pc.field("step") == 0) & (pc.field("split") == "val")).to_pylist()
    assert len(starts) == 6
    for seed in (0, 1):
        assert len({row["loss"] for row in starts if row["seed"] == seed}) == 1
    assert rows_of(together, sweep) == rows_of(apart, sweep)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_before_anything_is_written(name: str, digits: DataSet, tmp_path: Path) -> None:
    sweep, store = experiment(name), Store(tmp_path)
    with pytest.raises(InvalidExperiment) as caught:
        run_here(sweep, (0,), store, digits)
    assert REFUSED[name] in str(caught.value) and "\n" not in str(caught.value)
    assert not store.describe(sweep.id)


def test_every_network_of_the_collection_is_tried(digits: DataSet) -> None:
    import hostile_networks

    names = {
        name for name, what in vars(hostile_networks).items() if getattr(what, "__module__", "") == "hostile_networks"
    }
    elsewhere = {"KEPT", "PartsOfASet", "Net", "_filled", "WithNorm", "NoSecondDerivative", "PartlyDetached"}
    assert names == {*RIGHT, *REFUSED, *elsewhere}


def test_a_batch_of_one_is_no_batch_to_a_norm(digits: DataSet) -> None:
    with pytest.raises(InvalidExperiment, match=r"1 example at a time in training mode \(training.batch_size\)"):
        inspected(experiment("WithNorm", "training.batch_size=1"), digits)
    inspected(experiment("WithNorm", "training.batch_size=2"), digits)


def test_a_last_batch_of_one_that_is_scored(digits: DataSet) -> None:
    settings = ("pruning.criterion=snip", "pruning.scoring.examples=65", "pruning.scoring.batch_size=64")
    with pytest.raises(InvalidExperiment, match=r"1 example at a time in training mode \(the last batch of pruning.sc"):
        inspected(experiment("WithNorm", *settings), digits)


def test_evidence_that_a_network_cannot_give(digits: DataSet, tmp_path: Path) -> None:
    with pytest.raises(InvalidExperiment, match="cannot give 'hessian_gradient', which pruning.criterion asks for"):
        inspected(experiment("NoSecondDerivative", "pruning.criterion=grasp"), digits)
    inspected(experiment("NoSecondDerivative"), digits)
    inspected(experiment("NoSecondDerivative", "pruning.criterion=grasp", "pruning.levels=0"), digits)


def test_attention_is_scored_by_second_derivatives(digits: DataSet, tmp_path: Path) -> None:
    sweep = experiment("Attention", "pruning.criterion=grasp", "arms=[ticket]")
    assert len(run_here(sweep, (0,), Store(tmp_path), digits)) == 3


def test_what_is_found_is_said(digits: DataSet) -> None:
    facts = DataFacts.of(digits)

    def said(name: str, *settings: str) -> str:
        sweep = experiment(name, *settings)
        return " ".join(notes(sweep, facts, inspected(sweep, digits)))

    assert said("Dropout") == ""
    assert "norm stays in evaluation mode" in said("HeldInEvaluation")
    assert "does not depend on side.weight in training" in said("PartlyDetached")
    assert "draws random numbers in evaluation mode" in said("DropoutAlways")
    assert "draws random numbers" not in said("NoiseByNumpy")  # drawn, and not used
    assert "2 of 2 levels remove nothing (levels 1, 2)" in said("Dropout", "pruning.fraction=0.0001")
    assert "remove nothing" not in said("Dropout", "pruning.fraction=0.0007")  # 768 weights: one at every level
    part = said("Dropout", "model.prunable=[second.weight]")
    assert "87% of the network's weights are never pruned (first.weight): densities are those of the 120 prun" in part


def test_the_parts_of_a_network(digits: DataSet) -> None:
    parts = shares(experiment("Dropout", "model.prunable=[second.weight]"), DataFacts.of(digits))
    assert [part.what.partition(":")[0] for part in parts[:2]] == ["prunable", "first.weight"]
    assert parts[0].weights == 120 and sum(part.weights for part in parts) == 64 * 12 + 12 + 120 + 10
    assert sum(part.share for part in parts) == pytest.approx(1)


def test_small_levels_at_the_end_remove_nothing(digits: DataSet) -> None:
    sweep = load_experiment("smoke", ["model.arguments={hidden: [4]}", "pruning.levels=18"])
    assert notes(sweep, DataFacts.of(digits), inspected(sweep, digits))[0].startswith(
        "3 of 18 levels remove nothing (levels 16, 17, 18)"
    )


def test_a_report_says_what_is_never_pruned_and_which_levels_removed_nothing(digits: DataSet, tmp_path: Path) -> None:
    sweep, store = experiment("Dropout", "model.prunable=[second.weight]", "pruning.fraction=0.001"), Store(tmp_path)
    run_here(sweep, (0, 1), store, digits)
    results, described = lth.results.open(str(tmp_path), sweep.id), store.describe(sweep.id)
    assert described["network"]["weights"] == 910 and described["network"]["prunable"] == 120
    page = report_page(results, sweep.id, described, lth.results.judge(store, sweep.id, results.levels))
    assert "87% of the network&#x27;s weights are never pruned (first.weight)" in page
    assert "Level 1, 2 removed nothing" in page


def test_a_layer_held_in_evaluation_keeps_its_statistics(digits: DataSet, tmp_path: Path) -> None:
    sweep, store = experiment("HeldInEvaluation", "arms=[ticket]"), Store(tmp_path)
    done = run_here(sweep, (0,), store, digits)
    kept = store.read_checkpoint(sweep.id, done["ticket", 0, 0, 0].unit)
    assert float(kept["trained/buffers/norm.running_mean"].abs().max()) == 0
    assert float(kept["trained/buffers/norm.num_batches_tracked"].max()) == 0


def test_the_inspection_leaves_the_global_generators_as_they_were(digits: DataSet) -> None:
    from lth.streams import watched_randomness

    with watched_randomness() as watched:
        inspected(experiment("NoiseByNumpy", "margin=0.04"), digits)
    assert not watched.drawn


@pytest.mark.services
def test_a_network_that_differs_from_process_to_process(tmp_path: Path) -> None:
    """The first run has its own seed of hashes, the second another: strings of a set come in another order."""
    (tmp_path / "mine.yaml").write_text("preset: smoke\nname: mine\nmodel: {name: 'hostile_networks:PartsOfASet'}\n")

    def run(hash_seed: str, *options: str) -> subprocess.CompletedProcess[str]:
        code = "import sys; from flows.cli import main; main()"
        env = {**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parents[1]}", "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", code, "run", "mine.yaml", "--here", *options]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)

    assert run("1", "--seeds", "0").returncode == 0
    assert run("1", "--seeds", "0-1").returncode == 0
    other = run("2", "--seeds", "0-2")
    assert other.returncode == 1
    assert other.stderr.startswith("error: the network that model 'hostile_networks:PartsOfASet' builds is not the one")


def test_a_worker_that_builds_another_network_refuses(digits: DataSet) -> None:
    sweep, facts = experiment("PartsOfASet"), DataFacts.of(digits)
    began = network_of(sweep, facts).sketch
    Job(sweep, facts, "memory://", sketch=began).setup  # noqa: B018
    (first, *rest) = began.tensors
    for tensors, said in (
        ((*rest, first), "stands where"),
        (((first[0], first[1] + 0.1 * first[2], first[2]), *rest), "differs"),
        ((first, *rest, ("more", 0.0, 0.0)), "'more' is new or gone"),
    ):
        with pytest.raises(InvalidExperiment, match=said):
            Job(sweep, facts, "memory://", sketch=Sketch(tensors)).setup  # noqa: B018


@pytest.mark.parametrize("command", [["plan"], ["run", "--here"], ["run"]])
def test_every_command_says_it_in_one_line(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "preset: smoke\nname: mine\nmodel: {name: 'hostile_networks:ByTheClock', arguments: {}}\n"
    )
    first, *options = command
    code = "import sys; from flows.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, first, "mine.yaml", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parents[1]}"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: model 'hostile_networks:ByTheClock': its forward pass is not repeatable")
    assert ended.stderr.count("\n") == 1
