"""The experiment's model: what it refuses, and that every field explains itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from lth.errors import InvalidExperiment
from lth.experiment import (
    Execution,
    Experiment,
    load_experiment,
    preset_names,
)
from lth.experiment.load import build_experiment, field_paths

SGD = "training.optimizer={kind: sgd, learning_rate: 0.1, momentum: 0.9}"
LATE = "rewinding={kind: step, step: 10it}"


def sections(part: BaseModel) -> Iterator[BaseModel]:
    yield part
    for name in type(part).model_fields:
        value = getattr(part, name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, BaseModel):
                yield from sections(inner)


def test_every_part_is_frozen_and_refuses_unknown_fields() -> None:
    rewinds = [load_experiment("digits", [f"rewinding.kind={kind}"]).rewinding for kind in ("learning_rate", "none")]
    parts = [*sections(load_experiment("digits", [LATE])), Execution(), *rewinds]

    assert {type(part).__name__ for part in parts} >= {
        "Experiment",
        "Dataset",
        "Model",
        "Training",
        "Adam",
        "Constant",
        "Pruning",
        "PruningFraction",
        "Scoring",
        "RewindToStep",
        "Arm",
        "Execution",
    }
    for part in parts:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, next(iter(type(part).model_fields)), "x")
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            type(part).model_validate({**part.model_dump(), "colour": "red"})


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object with fields in a JSON schema, those behind references and unions too."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


@pytest.mark.parametrize("model", [Experiment, Execution])
def test_every_field_of_every_part_has_a_description(model: type[BaseModel]) -> None:
    described = [
        (part["title"], field, content.get("description", ""))
        for part in objects(model.model_json_schema())
        for field, content in part["properties"].items()
    ]

    assert [where for where in described if len(where[2]) < 4] == []
    assert all(part.get("description") for part in objects(model.model_json_schema()))
    if model is Experiment:
        titles = {title for title, _, _ in described}
        assert titles == {
            "Experiment",
            "Dataset",
            "Model",
            "Training",
            "Transfer",
            "Adam",
            "AdamW",
            "RMSprop",
            "Classification",
            "Regression",
            "Movement",
            "SGD",
            "Constant",
            "StepDecay",
            "Cosine",
            "CosineRestarts",
            "Linear",
            "Pruning",
            "PruningFraction",
            "Scoring",
            "RewindToInit",
            "RewindToStep",
            "RewindLearningRate",
            "FineTune",
            "NoRewinding",
            "Arm",
        }


def test_every_number_has_bounds() -> None:
    bounds = {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"}
    free = []
    for model in (Experiment, Execution):
        for part in objects(model.model_json_schema()):
            for field, content in part["properties"].items():
                for choice in [content, *content.get("anyOf", [])]:
                    if choice.get("type") in ("integer", "number") and len(bounds & set(choice)) < 2:
                        free.append((part["title"], field))
    assert free == []


def test_the_form_takes_its_choices_from_a_valid_json_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = Experiment.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)

    for name in preset_names():
        validator.validate(load_experiment(name).model_dump(mode="json"))
    wrong = load_experiment("digits").model_dump(mode="json")
    wrong["pruning"]["levels"] = -1
    assert [list(error.path) for error in validator.iter_errors(wrong)] == [["pruning", "levels"]]
    assert schema["$defs"]["Pruning"]["properties"]["scope"]["enum"] == [
        "erk",
        "global",
        "layer",
        "smart_ratio",
        "uniform",
        "uniform_plus",
    ]


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (["dataset.name=mnits"], ["dataset.name", "'mnits'", "did you mean 'mnist'?"]),
        (["dataset.path=somewhere"], ["dataset.path", "'somewhere'", "parquet"]),
        (["dataset.name=parquet"], ["dataset.path", "None", "parquet"]),
        (["dataset.name=table", "dataset.target=label"], ["dataset.path", "None", "folder below LTH_DATA_DIR"]),
        (["dataset={name: table, path: hearts}"], ["dataset.target", "None", "the column to learn"]),
        (["dataset.target=label"], ["dataset.target", "'label'", "`table`"]),
        (["dataset.target_kind=class"], ["dataset.target_kind", "'class'", "leave it out"]),
        (["dataset.validation=0"], ["dataset.validation", "got 0", "greater than or equal to 1"]),
        (["model.name=covn2"], ["model.name", "'covn2'", "did you mean 'conv2'?"]),
        (["model.name=my/net.py:make"], ["model.name", "'my/net.py:make'", "package.module:factory"]),
        (["model.name=':make'"], ["model.name", "':make'", "package.module:factory"]),
        (["model.arguments.scale=.nan"], ["model.arguments.scale", "got nan", "finite"]),
        (["model.arguments.scale=.inf"], ["model.arguments.scale", "got inf", "finite"]),
        (["model.arguments={deep: {deeper: [1, .nan]}}"], ["model.arguments.deep", "got nan", "finite"]),
        (["training.optimizer.learning_rate=.nan"], ["training.optimizer.learning_rate", "got nan", "finite"]),
        (["training.optimizer.learning_rate=-.inf"], ["training.optimizer.learning_rate", "got -inf", "finite"]),
        (["training.optimizer.learning_rate=0"], ["training.optimizer.learning_rate", "got 0", "greater than 0"]),
        (["training.optimizer.momentum=0.9"], ["training.optimizer.momentum", "'adam' has no such field", "'sgd'"]),
        (["training.optimizer.learning_rat=1"], ["did you mean training.optimizer.learning_rate?"]),
        (
            ["training.optimizer={learning_rate: 1}", "training.optimizer.kind=adagrad"],
            ["'adagrad'", "adam, adamw, rmsprop, sgd"],
        ),
        (["training.optimizer=sgd"], ["training.optimizer", "'sgd'", "group of fields"]),
        ([SGD, "training.optimizer.momentum=0", "training.optimizer.nesterov=true"], ["nesterov", "momentum above 0"]),
        (["training.batch_size=0"], ["training.batch_size", "got 0"]),
        (["training.batch_size=true"], ["batch_size is True", "digits"]),
        (["training.duration=600"], ["training.duration", "600", "'50000it'", "'160ep'"]),
        (["training.duration=-5it"], ["training.duration", "'-5it'", "'50000it'"]),
        (["training.duration=0ep"], ["training.duration", "0ep", "at least one step"]),
        (["training.evaluate_every=0it"], ["training.evaluate_every", "0it", "at least one step"]),
        (["training.evaluate_every=601it"], ["training.evaluate_every", "601it", "at most 600it"]),
        (["training.schedule={kind: cosine, warmup: 601it}"], ["training.schedule.warmup", "601it", "at most 600it"]),
        (["training.schedule={kind: step}"], ["training.schedule.milestones", "missing"]),
        (["training.schedule={kind: step, milestones: []}"], ["training.schedule", "milestone", "[20000it, 25000it]"]),
        (["training.schedule={kind: step, milestones: 5it}"], ["training.schedule.milestones", "'5it'", "list"]),
        (["training.schedule={kind: step, milestones: [20it, 10it]}"], ["milestones", "20it comes before 10it"]),
        (
            ["training.schedule={kind: polynomial}"],
            ["training.schedule", "'polynomial'", "constant, cosine, cosine_restarts, linear, step"],
        ),
        (["training.precision=fp8"], ["training.precision", "'fp8'", "'tf32'"]),
        (["training.lr=0.1"], ["training.lr", "no such field", "optimizer"]),
        (["trainig.duration=5it"], ["trainig", "did you mean training?"]),
        (["seeds=0-4"], ["seeds", "no part of an experiment", "--seeds 0-4"]),
        (["pruning.levels=-1"], ["pruning.levels", "got -1", "greater than or equal to 0"]),
        (["pruning.levels=1.5"], ["pruning.levels", "got 1.5", "integer"]),
        (["pruning.levels=true"], ["levels is True", "digits"]),
        (["pruning.fraction=0"], ["pruning.fraction", "got 0", "above 0 and below 1"]),
        (["pruning.fraction=1"], ["pruning.fraction", "got 1", "above 0 and below 1"]),
        (["pruning.fraction=1.5"], ["pruning.fraction", "got 1.5", "above 0 and below 1"]),
        (["pruning.fraction=.nan"], ["pruning.fraction", "got nan", "above 0 and below 1"]),
        (["pruning.fraction=half"], ["pruning.fraction", "got 'half'", "above 0 and below 1"]),
        (["pruning.fraction.dense=0"], ["pruning.fraction.dense", "got 0", "above 0 and below 1"]),
        (["pruning.fraction.conv=1.5"], ["pruning.fraction.conv", "got 1.5", "above 0 and below 1"]),
        (["pruning.fraction={dense: null, conv: null}"], ["pruning.fraction", "set dense, conv or both"]),
        (["pruning.scope=global"], ["pruning.scope", "'global'", "output_factor to 1"]),
        (["pruning.scope=everywhere"], ["pruning.scope", "'everywhere'", "known: erk, global, layer, "]),
        (["pruning.criterion=magnitud"], ["pruning", "criterion 'magnitud'", "did you mean 'magnitude'?"]),
        (["pruning.output_factor=-0.5"], ["pruning.output_factor", "got -0.5"]),
        ([LATE.replace("10it", "601it")], ["rewinding.step", "601it", "600it", "earlier"]),
        ([LATE.replace("10it", "600it")], ["rewinding.step", "600it", "earlier"]),
        (["rewinding.step=5it"], ["rewinding.step", "kind 'init' has no such field", "'step' has"]),
        (["rewinding.kind=late"], ["rewinding", "'late'", "fine_tune, init, learning_rate, none, step"]),
        (["arms=[ticket, tickets]"], ["arms.1", "'tickets'", "did you mean 'ticket'?"]),
        (["arms=[ticket, lucky]"], ["arms.1", "'lucky'", "known: dense, random_mask, reinit, "]),
        (["arms=[reinit]"], ["arms", "'ticket'"]),
        (["arms=[]"], ["arms", "[]", "[ticket, reinit]"]),
        (["arms=ticket"], ["arms", "'ticket'", "[ticket, reinit]"]),
        (["arms=[ticket, reinit, 'reinit:2']"], ["'reinit' appears twice", "'reinit:2'"]),
        (["arms=['ticket:2']"], ["'ticket'", "one draw, not 2"]),
        (["arms=[ticket, 'reinit:0']"], ["arms.1.draws", "got '0'"]),
        (["arms=[ticket, 'reinit:']"], ["arms.1.draws", "got ''"]),
        (["arms=[ticket, 'reinit:many']"], ["arms.1.draws", "got 'many'"]),
        (["margin=0"], ["margin", "got 0"]),
        (["margin=.nan"], ["margin", "got nan"]),
        (["name=../elsewhere"], ["name", "'../elsewhere'", "letters, digits"]),
        (["name=a/b"], ["name", "'a/b'", "letters, digits"]),
        (["name='-rf'"], ["name", "'-rf'", "beginning with a letter or digit"]),
        (['name="two\\nlines"'], ["name", "'two\\nlines'", "letters, digits"]),
        (["name=''"], ["name", "''", "letters, digits"]),
        (["name=" + "x" * 65], ["name", "x" * 65, "at most 64"]),
        (['"colour\\nred"=1'], ["colour"]),
    ],
    ids=lambda value: str(value[0])[:60] if isinstance(value, list) else None,
)
def test_a_mistake_gets_one_line_with_the_value_and_the_remedy(settings: list[str], wanted: list[str]) -> None:
    with pytest.raises(InvalidExperiment) as caught:
        load_experiment("digits", settings)

    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert [part for part in wanted if part not in text] == []
    # No jargon of the library that checks.
    assert [word for word in ("tuple", "discriminator", "pydantic", "Value error", "instance of") if word in text] == []


def test_several_mistakes_are_all_named_on_one_line() -> None:
    with pytest.raises(InvalidExperiment, match=r"pruning\.levels: .*got -1; margin: .*got 2$") as caught:
        load_experiment("digits", ["pruning.levels=-1", "margin=2"])
    assert "\n" not in str(caught.value)


def test_a_field_missing_in_the_file_is_named() -> None:
    with pytest.raises(InvalidExperiment, match=r"^name: is missing"):
        build_experiment({})


@pytest.mark.parametrize(
    ("rewind", "duration"), [("5000it", "160ep"), ("2ep", "600it"), ("159ep", "160ep"), ("0it", "1it")]
)
def test_rewind_steps_that_are_or_may_be_within_the_training_are_accepted(rewind: str, duration: str) -> None:
    """Steps against epochs can only be judged once the data set is known."""
    experiment = load_experiment(
        "digits",
        [f"training.duration={duration}", "training.evaluate_every=1it", f"rewinding={{kind: step, step: {rewind}}}"],
    )

    assert (experiment.rewinding.kind, experiment.rewinding.settings()) == ("step", {"step": rewind})


def test_one_number_is_the_fraction_of_every_kind_of_layer() -> None:
    for text in ("0.2", "2e-1"):  # YAML reads the second as a text
        fraction = load_experiment("digits", [f"pruning.fraction={text}"]).pruning.fraction
        assert (fraction.dense, fraction.conv) == (0.2, 0.2)


def test_arms_as_short_texts() -> None:
    experiment = load_experiment("digits", ["arms=[random_mask, 'reinit:3', {name: ticket}]"])

    assert [(arm.name, arm.draws) for arm in experiment.arms] == [("random_mask", 1), ("reinit", 3), ("ticket", 1)]
    # The ticket first: the others are cut after it.
    assert experiment.draws() == [("ticket", 0), ("random_mask", 0), ("reinit", 0), ("reinit", 1), ("reinit", 2)]


def test_execution_is_no_part_of_an_experiment() -> None:
    assert set(Execution.model_fields) & set(field_paths(Experiment)) == set()
    with pytest.raises(ValidationError):
        Execution(threads=0)
    with pytest.raises(ValidationError):
        Execution(gpu_share=1.5)
