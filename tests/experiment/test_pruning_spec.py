"""Pruning, rewinding, arms and imports in an experiment: what follows from what is said, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lth.arms import ARMS
from lth.data import load_dataset
from lth.errors import InvalidExperiment
from lth.experiment import Experiment, load_experiment
from lth.pruning import CRITERIA
from lth.store import Store, Unit
from lth.sweep.here import run_here

TOGETHER = ["pruning.scope=global", "pruning.fraction=0.2", "pruning.output_factor=1"]
UNITS = ["pruning.remove=units", "pruning.criterion=l1"]


def refusal(*settings: str) -> str:
    with pytest.raises(InvalidExperiment) as caught:
        load_experiment("digits", settings)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert [word for word in ("tuple", "pydantic", "Value error", "instance of", "Traceback") if word in text] == []
    return text


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (["pruning.criterion=sinp"], ["criterion 'sinp'", "did you mean 'snip'?", "magnitude_increase"]),
        (["pruning.criterion=magnitude_increase", "pruning.when=at_initialisation"], ["_increase", "after_train"]),
        (["pruning.criterion=movement", "rewinding.kind=none"], ["'movement'", "'none'", "one_shot"]),
        (["pruning.when=at_initialisation", "arms=[ticket, dense]"], ["'dense'", "level 0"]),
        (["pruning.criterion=fisher", "pruning.scoring.batch_size=10"], ["'fisher'", "scoring.batch_size"]),
        (["pruning.criterion=fisher", "pruning.scoring.mode=eval"], ["'fisher'", "scoring.mode", "leave it out"]),
        (["pruning.scoring.mode=eval"], ["'magnitude'", "scoring.mode"]),
        (["pruning.criterion=snip", "pruning.scoring.mode=test"], ["pruning.scoring.mode", "'train' or 'eval'"]),
        (["pruning.criterion=snip", "pruning.scoring.halves=true"], ["'snip'", "scoring.halves"]),
        (["pruning.criterion=grasp", "pruning.scoring={examples: 1, halves: true}"], ["scoring.halves", "2 or more"]),
        (["pruning.remove=units", "pruning.criterion=l1", "pruning.output_factor=0.3"], ["'l1'", "output_factor"]),
        (["pruning.remove=units", "pruning.criterion=l1", "pruning.allow_empty_layers=true"], ["allow_empty_layers"]),
        (["pruning.criterion=magnitude_inti"], ["'magnitude_inti'", "did you mean 'magnitude_init'?"]),
        (["pruning.criterion=l1"], ["criterion 'l1'", "known: fisher, grasp"]),  # one of units
        (["pruning.remove=units"], ["criterion for units 'magnitude'", "known: bn_scale, l1, l2"]),
        (["pruning.remove=units", "pruning.criterion=bn_scal"], ["'bn_scal'", "did you mean 'bn_scale'?"]),
        (["pruning.remove=filters"], ["pruning.remove", "'filters'", "'weights' or 'units'"]),
        ([*TOGETHER, "pruning.levels=2", "pruning.densities=[0.2, 0.5]"], ["densities must fall", "[0.2, 0.5]"]),
        ([*TOGETHER, "pruning.levels=2", "pruning.densities=[0.2, 0.2]"], ["densities must fall", "[0.2, 0.2]"]),
        (["pruning.levels=2", "pruning.densities=[0.2, 0.1]"], ["densities", "set pruning.scope", "fraction"]),
        ([*TOGETHER, "pruning.levels=3", "pruning.densities=[0.2, 0.1]"], ["levels is 3", "only 2 densities"]),
        ([*TOGETHER, "pruning.levels=1", "pruning.densities=[1]"], ["pruning.densities.0", "less than 1", "got 1"]),
        ([*TOGETHER, "pruning.levels=1", "pruning.densities=[0]"], ["pruning.densities.0", "greater than 0", "got 0"]),
        ([*TOGETHER, "pruning.levels=1", "pruning.densities=0.1"], ["pruning.densities", "list", "got 0.1"]),
        ([*TOGETHER, "pruning.levels=1", "pruning.densities=[]"], ["pruning.densities", "list", "got []"]),
        ([*UNITS, "pruning.levels=1", "pruning.densities=[0.5]"], ["densities", "remove weights", "pruning.fraction"]),
        (["pruning.scope=erk"], ["'erk'", "dense and conv the same fraction", "output_factor to 1"]),
        (["pruning.criterion=synflow", "pruning.scoring.examples=5"], ["'synflow'", "examples", "leave it out"]),
        (["pruning.criterion=synflow", "pruning.scoring.per_class=5"], ["'synflow'", "per_class", "leave it out"]),
        (["pruning.scoring.batch_size=5"], ["'magnitude'", "batch_size", "leave it out"]),
        (["pruning.criterion=snip", "pruning.scoring.temperature=200"], ["'snip'", "temperature", "leave it out"]),
        (["pruning.criterion=grasp", "pruning.scoring.temperature=0"], ["scoring.temperature", "got 0", "than 0"]),
        (["pruning.criterion=grasp", "pruning.scoring={examples: 5, per_class: 3}"], ["not both", "5 and 3"]),
        (["pruning.criterion=snip", "pruning.scoring.examples=0"], ["pruning.scoring.examples", "got 0"]),
        (["pruning.criterion=snip", "pruning.scoring.example=5"], ["did you mean pruning.scoring.examples?"]),
        (["pruning.criterion=movement", "pruning.when=at_initialisation"], ["'movement'", "after_training"]),
        (["pruning.when=at_init"], ["pruning.when", "'at_init'", "known: after_training, at_initialisation"]),
        (
            ["pruning.when=at_initialisation", "rewinding={kind: step, step: 5it}"],
            ["'at_initialisation'", "rewinding.kind to init", "'step'"],
        ),
        (
            ["pruning.when=at_initialisation", "rewinding={kind: learning_rate}"],
            ["'at_initialisation'", "rewinding.kind to init", "'learning_rate'"],
        ),
        (["pruning.rounds=0"], ["pruning.rounds", "got 0"]),
        (["pruning.rounds=many"], ["pruning.rounds", "got 'many'"]),
        (["pruning.allow_empty_layers=3"], ["pruning.allow_empty_layers", "got 3"]),
        ([*UNITS, "pruning.rounds=3"], ["'l1'", "pruning.rounds", "leave it out"]),
        ([*UNITS, "pruning.scoring.examples=3"], ["'l1'", "pruning.scoring", "leave it out"]),
        ([*UNITS, "pruning.scope=erk"], ["'units'", "layer or global", "'erk'"]),
        ([*UNITS, "pruning.when=at_initialisation"], ["'units'", "after training", "'at_initialisation'"]),
        (["rewinding.kind=lr"], ["rewinding", "'lr'", "fine_tune, init, learning_rate, none, step"]),
        (["rewinding={kind: step}"], ["rewinding.step", "missing"]),
        (["rewinding={kind: learning_rate, step: 5it}"], ["'learning_rate' has no such field", "'step' has"]),
        (["rewinding={kind: none, duration: 5it}"], ["rewinding.duration", "'none' has no such field", "'fine_tune'"]),
        (["rewinding={kind: fine_tune, duration: 0ep}"], ["rewinding.duration", "at least one step", "kind none"]),
        (["rewinding={kind: fine_tune, duration: 5}"], ["rewinding.duration", "5", "'50000it'"]),
        (["arms=[ticket, 'dense:2']"], ["arms.1", "'dense'", "one draw, not 2"]),
        (["arms=[ticket, 'reinit_constant_sign:3']"], ["'reinit_constant_sign'", "one draw, not 3"]),
        (["arms=[ticket, shuffled]"], ["arms.1", "'shuffled'", "did you mean 'shuffled_mask'?"]),
        (["imports=[no_such_methods]"], ["imports", "'no_such_methods'", "ModuleNotFoundError"]),
        (["imports=no_such_methods"], ["imports", "'no_such_methods'", "importable from here"]),
        (["imports=['my methods']"], ["imports", "'my methods'", "my_methods"]),
        (["imports=[methods/mine.py]"], ["imports", "'methods/mine.py'", "my_methods"]),
        (["imports=[3]"], ["imports", "3 is no module name", "my_methods"]),
    ],
    ids=lambda value: " ".join(value[-2:])[:70] if isinstance(value, list) else None,
)
def test_a_mistake_gets_one_line_with_the_value_and_the_remedy(settings: list[str], wanted: list[str]) -> None:
    text = refusal(*settings)
    assert [part for part in wanted if part not in text] == [], text


def test_what_is_not_said_follows_from_what_is() -> None:
    pruning = Experiment.model_validate(
        {
            "name": "a",
            "pruning": {"criterion": "snip", "when": "at_initialisation", "scope": "global", "densities": [0.05, 0.02]},
        }
    ).pruning

    assert pruning.levels == 2  # one for each density
    assert pruning.output_factor == 1.0  # all layers compete for one density
    assert (pruning.fraction.dense, pruning.fraction.conv) == (0.2, 0.2)  # every kind of layer takes part
    assert pruning.rounds is None and pruning.scoring.examples is None  # as published

    alone = Experiment.model_validate({"name": "a", "pruning": {"scope": "layer"}}).pruning
    assert (alone.output_factor, alone.fraction.dense, alone.fraction.conv, alone.levels) == (0.5, 0.2, 0.1, 20)


def test_fewer_levels_than_densities_are_a_shorter_sweep_of_the_same_trainings() -> None:
    settings = [*TOGETHER, "pruning.densities=[0.2, 0.1]"]
    whole, first = (load_experiment("digits", [*settings, f"pruning.levels={levels}"]) for levels in (2, 1))

    assert whole.id == first.id


def test_a_layer_that_is_never_pruned_takes_no_part_in_the_densities() -> None:
    settings = [*TOGETHER, "pruning.levels=1", "pruning.densities=[0.5]"]
    pruning = load_experiment("digits", [*settings, "pruning.output_factor=0"]).pruning

    assert pruning.output_factor == 0


def test_fine_tuning_for_as_long_as_the_training_is_the_default() -> None:
    for setting, duration in (("kind: fine_tune", None), ("kind: fine_tune, duration: 2ep", "2ep")):
        rewinding = load_experiment("digits", [f"rewinding={{{setting}}}"]).rewinding
        assert (rewinding.kind, rewinding.settings()) == ("fine_tune", {"duration": duration})


MINE = """
from dataclasses import replace

from lth.arms import register_arm
from lth.pruning import register_criterion


@register_criterion("smallest", "-|w|, the opposite of magnitude")
def smallest(weights):
    return -weights.abs()


@register_arm("flipped", "the ticket's mask, its weights with the opposite sign", random=False)
def flipped(ticket, draw):
    return replace(ticket, weights=-ticket.weights)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that a command is started in; what a test registers there is forgotten after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    for registry in (ARMS, CRITERIA):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    yield tmp_path
    for name in ("my_methods", "broken_methods"):
        sys.modules.pop(name, None)


def test_a_users_criterion_and_arm_come_from_a_file_beside_the_experiment(folder: Path) -> None:
    (folder / "my_methods.py").write_text(MINE)
    (folder / "mine.yaml").write_text(
        "preset: smoke\nimports: [my_methods]\narms: [ticket, flipped]\npruning: {criterion: smallest, levels: 1}\n"
    )
    experiment = load_experiment("mine.yaml")
    assert experiment.imports == ("my_methods",)
    assert CRITERIA.names()["smallest"] == "-|w|, the opposite of magnitude"

    store = Store(folder / "store")
    run_here(experiment, (0, 1), store, load_dataset("digits"))
    where = store.committed(experiment.id).where
    trained = store.read_checkpoint(experiment.id, Unit("ticket", 0, 0, (0, 1)).name)["trained/1.weight"].abs()
    masks = torch.from_numpy(
        store.read_masks(experiment.id, {seed: where["ticket", 0, 1, seed] for seed in (0, 1)})["1.weight"]
    )
    for row in range(2):
        assert float(trained[row][masks[row]].max()) <= float(trained[row][~masks[row]].min())
    assert ("flipped", 0, 1, 0) in where
    # The name decides the trainings, the module that it comes from does not.
    assert load_experiment("mine.yaml", ["imports=[my_methods, colorsys]"]).id == experiment.id
    assert load_experiment("mine.yaml", ["pruning.criterion=magnitude"]).id != experiment.id


def test_another_process_imports_the_users_module_too(folder: Path) -> None:
    """A worker is handed the experiment as JSON and knows of no module but what that names."""
    (folder / "my_methods.py").write_text(MINE)
    text = load_experiment("smoke", ["imports=my_methods", "pruning.criterion=smallest"]).model_dump_json()
    code = (
        "import sys; from lth.experiment.load import build_experiment, run_code_in; from lth.pruning import CRITERIA; "
        "import json; content = json.loads(sys.argv[1]); run_code_in(content); "
        "print(build_experiment(content).pruning.criterion in CRITERIA)"
    )
    # -P: as a command that is started as a program, which does not search the folder that it is started in.
    answer = subprocess.run([sys.executable, "-P", "-c", code, text], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "True"


def test_without_its_module_the_name_is_unknown(folder: Path) -> None:
    assert "unknown criterion 'smallest'" in refusal("pruning.criterion=smallest")


REGISTERED = """\
from lth.pruning import register_criterion

@register_criterion("{name}", "mine")
def mine({need}):
    return {need}
"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("def broken(:\n", ["SyntaxError"]),
        ("import sys\nsys.exit(3)\n", ["SystemExit", "3"]),
        ("raise RuntimeError('first line\\nsecond line')\n", ["RuntimeError: first line"]),
        (
            REGISTERED.format(name="mine", need="weight"),
            ["criterion 'mine' asks for 'weight', which is no evidence", "there is fisher_diagonal, flow, gradient"],
        ),
        (
            REGISTERED.format(name="snip", need="weights"),
            ["a criterion named 'snip' is registered already, by lth.pruning.criteria.snip", "another name"],
        ),
    ],
    ids=["syntax", "exit", "two lines", "no evidence", "taken name"],
)
def test_a_module_that_cannot_be_imported_is_named_with_its_reason(folder: Path, text: str, wanted: list[str]) -> None:
    (folder / "broken_methods.py").write_text(text)
    answer = refusal("imports=[broken_methods]")
    assert "imports: importing 'broken_methods' failed" in answer
    assert [part for part in wanted if part not in answer] == [], answer
