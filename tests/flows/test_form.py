"""The form of the deployments: its fields are the experiment's, and what it means is what the command line means."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from flows.deployments import sweep
from flows.form import Advanced, Changes, execution_of, experiment_of, settings_of
from lth.errors import InvalidExperiment
from lth.experiment import Execution, load_experiment
from lth.experiment.load import preset_names

SCHEMA: dict[str, Any] = sweep.parameters.model_dump()


def check(**parameters: Any) -> None:
    jsonschema.validate(parameters, SCHEMA)


def test_an_empty_form_is_the_preset() -> None:
    for preset in preset_names():
        assert experiment_of(preset, Changes(), []) == load_experiment(preset)
    assert execution_of(Advanced()) == Execution()


def test_every_field_of_the_form_arrives_in_the_experiment() -> None:
    changes = Changes(
        name="mine",
        controls=["reinit", "dense"],
        levels=2,
        fraction=0.3,
        criterion="snip",
        when="after_training",
        scope="global",
        schedule="one_shot",
        densities=[0.5, 0.1],
        rewinding="step",
        rewind_step="5it",
        duration="300it",
        learning_rate=0.01,
        batch_size=30,
        dataset="mnist",
        margin=0.01,
    )
    assert set(changes.model_dump()) == set(type(changes).model_fields)  # none is forgotten here
    found = experiment_of("digits", changes, ["pruning.output_factor=1", "training.evaluate_every=100it"])
    assert found == load_experiment(
        "digits",
        [
            "name=mine",
            "arms=[ticket, reinit, dense]",
            "pruning.levels=2",
            "pruning.criterion=snip",
            "pruning.fraction=0.3",
            "rewinding={kind: step, step: 5it}",
            "pruning.when=after_training",
            "pruning.scope=global",
            "pruning.schedule=one_shot",
            "pruning.densities=[0.5, 0.1]",
            "training.duration=300it",
            "training.optimizer.learning_rate=0.01",
            "training.batch_size=30",
            "dataset.name=mnist",
            "margin=0.01",
            "pruning.output_factor=1",
            "training.evaluate_every=100it",
        ],
    )
    assert execution_of(Advanced(device="cpu", cohort_size=3, threads=2, gpu_share=0.5)) == Execution(
        device="cpu", cohort_size=3, threads=2, gpu_share=0.5
    )


def test_rewinding_is_a_menu_and_a_step() -> None:
    late = "resnet20-cifar10-late"  # a preset that rewinds to a step of its own
    for kind in ("init", "learning_rate", "fine_tune", "none"):
        of_form = experiment_of(late, Changes(rewinding=kind), [])
        assert of_form == load_experiment(late, [f"rewinding={{kind: {kind}}}"])
    assert experiment_of("digits", Changes(rewind_step="5it"), []).rewinding.step == "5it"
    with pytest.raises(InvalidExperiment, match=r"rewinding.step: kind 'init' has no such field"):
        experiment_of("digits", Changes(rewinding="init", rewind_step="5it"), [])


def test_an_empty_field_says_nothing() -> None:
    assert settings_of(Changes(levels=3), ["margin=0.01"]) == ["pruning.levels=3", "margin=0.01"]
    assert Changes().model_dump() == {} and Advanced().model_dump() == {}


def test_menus_and_explanations() -> None:
    definitions = SCHEMA["definitions"]
    assert SCHEMA["properties"]["preset"]["enum"] == preset_names()
    assert list(SCHEMA["properties"]) == ["preset", "seeds", "changes", "advanced"]
    for name in SCHEMA["properties"]:
        assert SCHEMA["properties"][name]["description"]
    for group in ("Changes", "Advanced"):
        for name, field in definitions[group]["properties"].items():
            assert field["description"] and field["title"], name
            assert "anyOf" not in field, f"{name} would be shown as a choice of types"
    assert list(definitions["Changes"]["properties"])[:6] == [
        "name",
        "controls",
        "levels",
        "fraction",
        "criterion",
        "when",
    ]  # the question first, the recipe last
    assert list(definitions["Changes"]["properties"])[-5:] == [
        "duration",
        "learning_rate",
        "batch_size",
        "dataset",
        "margin",
    ]
    assert "ticket" not in definitions["Changes"]["properties"]["controls"]["items"]["enum"]
    assert "synflow" in definitions["Changes"]["properties"]["criterion"]["enum"]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"preset": "lenet-mnist", "seeds": "0-99"},
        {"seeds": "0,3, 10-12"},
        {"changes": {"levels": 3, "controls": ["reinit"], "duration": "5ep", "densities": [0.1]}},
        {"advanced": {"settings": ["training.batch_size=30"], "store": "s3://bucket/x", "gpu_share": 0.5}},
    ],
)
def test_good_parameters_pass_the_schema(parameters: dict[str, Any]) -> None:
    check(**parameters)


@pytest.mark.parametrize(
    "parameters",
    [
        {"preset": "lenet"},
        {"seeds": "all"},
        {"seeds": "-3"},
        {"changes": {"levels": -1}},
        {"changes": {"levels": "3"}},
        {"changes": {"duration": "5 epochs"}},
        {"changes": {"learning_rate": 0}},
        {"changes": {"criterion": "magnitud"}},
        {"changes": {"controls": ["ticket"]}},
        {"changes": {"level": 3}},
        {"changes": {"margin": 1}},
        {"changes": {"fraction": 1}},
        {"changes": {"rewinding": "late"}},
        {"changes": {"rewind_step": "5"}},
        {"changes": {"densities": [2]}},
        {"changes": {"name": "../x"}},
        {"advanced": {"threads": 0}},
        {"advanced": {"gpu_share": 2}},
        {"advanced": {"settings": "a=b"}},
    ],
)
def test_bad_parameters_are_refused_at_submission(parameters: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(**parameters)


@pytest.mark.parametrize(
    ("seeds", "changes", "settings"),
    [
        ("0-4", {"when": "at_initialisation"}, ["rewinding={kind: step, step: 10it}"]),
        ("0-4", {"rewinding": "init", "rewind_step": "5it"}, []),
        ("0-4", {"densities": [0.1, 0.5], "scope": "global"}, []),
        ("0-4", {}, ["pruning.levles=3"]),
        ("4-0", {}, []),
    ],
)
def test_what_only_holds_together_ends_the_run_in_the_words_of_the_command_line(
    seeds: str, changes: dict[str, Any], settings: list[str], tmp_path: Path
) -> None:
    """The state of a run that the form started, and what `lth run` prints."""
    said = [word for setting in settings_of(Changes(**changes), settings) for word in ("--set", setting)]
    told = subprocess.run(
        [Path(sys.executable).with_name("lth"), "run", "digits", "--seeds", seeds, "--store", str(tmp_path), *said],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    state = sweep(
        "digits", seeds, Changes(**changes), Advanced(settings=settings, store=str(tmp_path)), return_state=True
    )
    assert state.is_failed() and told.stderr == f"error: {state.message}\n"


def test_a_sweep_too_large_to_be_meant_is_refused_by_the_form_too(tmp_path: Path) -> None:
    state = sweep("digits", "0-9999999", Changes(), Advanced(store=str(tmp_path)), return_state=True)
    assert state.is_failed() and "tick Large sweep under advanced if that is meant" in state.message
