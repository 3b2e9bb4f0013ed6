"""The experiment's model: what is in its id, what it refuses, and that every field explains itself."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from lth.errors import InvalidExperiment
from lth.experiment import (
    Execution,
    Experiment,
    FineTune,
    NoRewinding,
    RewindLearningRate,
    RewindToStep,
    canonical_json,
    digest,
    load_experiment,
    preset_names,
)
from lth.experiment.reading import build_experiment, field_paths

SGD = "training.optimizer={kind: sgd, learning_rate: 0.1, momentum: 0.9}"
STEP = "training.schedule={kind: step, milestones: [100it]}"
LATE = "rewinding={kind: step, step: 10it}"
PARQUET = "dataset={name: parquet, path: birds, validation: 240}"
DENSITIES = ["pruning.scope=global", "pruning.fraction=0.2", "pruning.output_factor=1", "pruning.levels=1",
             "pruning.densities=[0.5]"]
TAKEN = ["pruning.fraction={dense: 0.2, conv: 0.1}", "transfer.experiment=mnist-0123456789"]
FINE_TUNE = "rewinding={kind: fine_tune, duration: 10it}"

# For every field that decides a training: settings in which it exists, and settings that differ in it alone.
DECIDING: dict[str, tuple[list[str], list[str]]] = {
    "dataset.name": ([], ["dataset.name=mnist"]),
    "dataset.path": ([PARQUET], [PARQUET.replace("birds", "trees")]),
    "dataset.validation": ([], ["dataset.validation=241"]),
    "dataset.standardise": ([], ["dataset.standardise=none"]),
    "dataset.crop_padding": ([], ["dataset.crop_padding=1"]),
    "dataset.flip": ([], ["dataset.flip=true"]),
    "model.name": (["model={name: conv2}"], ["model={name: conv4}"]),
    "model.arguments": ([], ["model.arguments.hidden=[300, 101]"]),
    "model.initialisation": ([], ["model.initialisation=kaiming_normal"]),
    "model.prunable": ([], ["model.prunable=[1.weight]"]),
    "model.output_layer": ([], ["model.output_layer=3.weight"]),
    "training.optimizer.kind": ([], [SGD]),
    "training.optimizer.learning_rate": ([], ["training.optimizer.learning_rate=0.0013"]),
    "training.optimizer.beta1": ([], ["training.optimizer.beta1=0.8"]),
    "training.optimizer.beta2": ([], ["training.optimizer.beta2=0.99"]),
    "training.optimizer.epsilon": ([], ["training.optimizer.epsilon=1e-7"]),
    "training.optimizer.weight_decay": ([], ["training.optimizer.weight_decay=1e-4"]),
    "training.optimizer.momentum": ([SGD], [SGD, "training.optimizer.momentum=0.8"]),
    "training.optimizer.nesterov": ([SGD], [SGD, "training.optimizer.nesterov=true"]),
    "training.schedule.kind": ([], ["training.schedule={kind: cosine}"]),
    "training.schedule.warmup": ([], ["training.schedule.warmup=5it"]),
    "training.schedule.milestones": ([STEP], [STEP, "training.schedule.milestones=[101it]"]),
    "training.schedule.factor": ([STEP], [STEP, "training.schedule.factor=0.5"]),
    "training.batch_size": ([], ["training.batch_size=61"]),
    "training.duration": ([], ["training.duration=601it"]),
    "training.evaluate_every": ([], ["training.evaluate_every=21it"]),
    "training.precision": ([], ["training.precision=bf16"]),
    "pruning.remove": ([], ["pruning.remove=units", "pruning.criterion=l1"]),  # units have criteria of their own
    "pruning.criterion": ([], ["pruning.criterion=magnitude_init"]),
    "pruning.when": ([], ["pruning.when=at_initialisation"]),
    "pruning.scope": (["pruning.fraction=0.2", "pruning.output_factor=1"],
                      ["pruning.fraction=0.2", "pruning.output_factor=1", "pruning.scope=global"]),
    "pruning.schedule": ([], ["pruning.schedule=one_shot"]),
    "pruning.fraction.dense": ([], ["pruning.fraction.dense=0.28"]),
    "pruning.fraction.conv": ([], ["pruning.fraction.conv=0.2"]),
    "pruning.output_factor": ([], ["pruning.output_factor=0.6"]),
    "pruning.densities": (DENSITIES, [*DENSITIES, "pruning.densities=[0.4]"]),
    "pruning.rounds": ([], ["pruning.rounds=2"]),
    "pruning.scoring.examples": (["pruning.criterion=snip"], ["pruning.criterion=snip", "pruning.scoring.examples=64"]),
    "pruning.scoring.per_class": (["pruning.criterion=grasp"],
                                  ["pruning.criterion=grasp", "pruning.scoring.per_class=5"]),
    "pruning.scoring.batch_size": (["pruning.criterion=taylor"],
                                   ["pruning.criterion=taylor", "pruning.scoring.batch_size=50"]),
    "pruning.scoring.temperature": (["pruning.criterion=grasp"],
                                    ["pruning.criterion=grasp", "pruning.scoring.temperature=1"]),
    "pruning.allow_empty_layers": ([], ["pruning.allow_empty_layers=true"]),
    "rewinding.kind": ([], [LATE]),
    "transfer.experiment": (TAKEN, [*TAKEN, "transfer.experiment=mnist-0123456780"]),
    "transfer.ticket": ([*TAKEN[:1], "pruning.levels=1", f"transfer.ticket={'a' * 64}"],
                        [*TAKEN[:1], "pruning.levels=1", f"transfer.ticket={'b' * 64}"]),
    "rewinding.step": ([LATE], [LATE.replace("10it", "11it")]),
    "rewinding.duration": ([FINE_TUNE], [FINE_TUNE.replace("10it", "11it")]),
}
# The same trainings, more or fewer of them, or judged otherwise.
NOT_DECIDING = {
    "pruning.levels": ["pruning.levels=3"],
    "arms": ["arms=[ticket]"],
    "arms.name": ["arms=[ticket, random_mask]"],
    "arms.draws": ["arms=[ticket, 'reinit:3', random_mask]"],
    "imports": ["imports=[colorsys]"],  # of what a module registers, the names that are used count
    "margin": ["margin=0.01"],
}


def leaves(paths: list[str]) -> set[str]:
    return {path for path in paths if not any(other.startswith(path + ".") for other in paths)}


def test_every_field_is_known_to_decide_a_training_or_not() -> None:
    assert leaves(field_paths(Experiment)) - {"name"} == set(DECIDING) | set(NOT_DECIDING) - {"arms"}


@pytest.mark.parametrize("field", sorted(DECIDING))
def test_the_id_changes_with_every_field_that_decides(field: str) -> None:
    before, after = (load_experiment("digits", settings) for settings in DECIDING[field])

    assert before.id != after.id
    assert {before.id[:7], after.id[:7]} == {"digits-"}


@pytest.mark.parametrize("field", sorted(NOT_DECIDING))
def test_the_id_stays_when_a_sweep_is_extended_or_judged_otherwise(field: str) -> None:
    before, after = load_experiment("digits"), load_experiment("digits", NOT_DECIDING[field])

    assert before != after
    assert before.id == after.id


@pytest.mark.parametrize("kind", ["init", "step, step: 10it", "learning_rate", "fine_tune", "none"])
def test_every_way_of_rewinding_has_an_id_of_its_own(kind: str) -> None:
    others = [f"rewinding={{kind: {other}}}" for other in ("init", "step, step: 10it", "learning_rate", "fine_tune",
                                                           "none") if other != kind]

    assert load_experiment("digits", [f"rewinding={{kind: {kind}}}"]).id not in {
        load_experiment("digits", [other]).id for other in others}


def test_the_id_is_the_name_and_ten_hex_digits_of_the_deciding_content() -> None:
    experiment = load_experiment("digits", ["name=my-own_1"])

    assert experiment.id == "my-own_1-" + digest(experiment.deciding())[:10]
    assert experiment.id.removeprefix("my-own_1") == load_experiment("digits").id.removeprefix("digits")


def test_presets_keep_their_ids() -> None:
    """A changed default orphans every result that lies in somebody's store: change an id here only on purpose."""
    assert {name: load_experiment(name).id for name in preset_names()} == {
        "conv2-cifar10": "conv2-cifar10-38a3034a14",
        "conv4-cifar10": "conv4-cifar10-3b9d9cecbc",
        "conv6-cifar10": "conv6-cifar10-1bffd09698",
        "digits": "digits-caa6ab014e",
        "lenet-mnist": "lenet-mnist-e6316fa4ca",
        "lenet-mnist-snip": "lenet-mnist-snip-f660aea1ee",
        "resnet20-cifar10": "resnet20-cifar10-6c51fa14ae",
        "resnet20-cifar10-late": "resnet20-cifar10-late-6f26128105",
        "resnet20-cifar10-low": "resnet20-cifar10-low-3163147849",
        "resnet20-cifar10-warmup": "resnet20-cifar10-warmup-b6d6414bce",
        "smoke": "smoke-97a7f05e9b",
        "vgg16-cifar10": "vgg16-cifar10-4dc46d39f5",
        "vgg16-cifar10-late": "vgg16-cifar10-late-2a2d03c127",
        "vgg19-cifar10": "vgg19-cifar10-7c25c2cbbf",
        "vgg19-cifar10-warmup": "vgg19-cifar10-warmup-b064fa8e1a",
    }


def test_what_decides_the_smoke_experiment_field_by_field() -> None:
    """The content behind its pinned id, so that a changed default shows itself by name."""
    assert load_experiment("smoke").deciding() == {
        "dataset": {"name": "digits", "path": None, "validation": 200, "standardise": "channel", "crop_padding": 0,
                    "flip": False},
        "model": {"name": "mlp", "arguments": {"hidden": [16]}, "initialisation": "glorot_normal", "prunable": None,
                  "output_layer": None},
        "training": {
            "optimizer": {"kind": "adam", "learning_rate": 0.005, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8,
                          "weight_decay": 0.0},
            "schedule": {"kind": "constant", "warmup": "0it"}, "batch_size": 32, "duration": "40it",
            "evaluate_every": "10it", "precision": "float32"},
        "pruning": {"remove": "weights", "criterion": "magnitude", "when": "after_training", "scope": "layer",
                    "schedule": "iterative", "fraction": {"dense": 0.3, "conv": 0.1}, "output_factor": 0.5,
                    "densities": None, "rounds": None,
                    "scoring": {"examples": None, "per_class": None, "batch_size": None, "temperature": None},
                    "allow_empty_layers": False},
        "rewinding": {"kind": "init"},
    }


def test_canonical_json_is_one_text_per_content() -> None:
    assert canonical_json({"b": 1, "a": {"d": [1.0, 1e-8, None], "c": "ß"}}) == canonical_json(
        {"a": {"c": "ß", "d": [1.0, 1e-8, None]}, "b": 1})
    assert canonical_json({"b": 1.0, "a": "ß"}) == '{"a":"\\u00df","b":1.0}'
    assert canonical_json(0.1 + 0.2) == "0.30000000000000004"
    # SHA-256 of the two bytes {}, as `printf '{}' | sha256sum` says it.
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_canonical_json_refuses_what_json_cannot_say(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": number})


def test_an_integer_and_the_same_float_are_one_experiment() -> None:
    whole = load_experiment("digits", ["pruning.output_factor=1"])
    point = load_experiment("digits", ["pruning.output_factor=1.0"])

    assert whole == point
    assert whole.id == point.id


@pytest.mark.parametrize("name", preset_names())
def test_plain_data_and_back_is_the_same_experiment(name: str) -> None:
    experiment = load_experiment(name)
    plain = json.loads(json.dumps(experiment.model_dump(mode="json")))

    assert Experiment.model_validate(plain) == experiment
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment
    assert Experiment.model_validate(plain).id == experiment.id


def sections(part: BaseModel) -> Iterator[BaseModel]:
    yield part
    for name in type(part).model_fields:
        value = getattr(part, name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, BaseModel):
                yield from sections(inner)


def test_every_part_is_frozen_and_refuses_unknown_fields() -> None:
    parts = [*sections(load_experiment("digits", [LATE])), Execution(), RewindLearningRate(), FineTune(), NoRewinding()]

    assert {type(part).__name__ for part in parts} >= {
        "Experiment", "Dataset", "Model", "Training", "Adam", "Constant", "Pruning", "PruningFraction", "Scoring",
        "RewindToStep", "Arm", "Execution"}
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
    described = [(part["title"], field, content.get("description", ""))
                 for part in objects(model.model_json_schema()) for field, content in part["properties"].items()]

    assert [where for where in described if len(where[2]) < 4] == []
    assert all(part.get("description") for part in objects(model.model_json_schema()))
    if model is Experiment:
        titles = {title for title, _, _ in described}
        assert titles == {"Experiment", "Dataset", "Model", "Training", "Transfer", "Adam", "SGD", "Constant", "Step",
                          "Cosine", "Pruning", "PruningFraction", "Scoring", "RewindToInit", "RewindToStep",
                          "RewindLearningRate", "FineTune", "NoRewinding", "Arm"}


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
        "layer", "global", "uniform", "uniform_plus", "erk", "smart_ratio"]


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (["dataset.name=mnits"], ["dataset.name", "'mnits'", "did you mean 'mnist'?"]),
        (["dataset.path=somewhere"], ["dataset.path", "'somewhere'", "parquet"]),
        (["dataset.name=parquet"], ["dataset.path", "None", "parquet"]),
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
        (["training.optimizer={learning_rate: 1}", "training.optimizer.kind=adagrad"], ["'adagrad'", "adam, sgd"]),
        (["training.optimizer=sgd"], ["training.optimizer", "'sgd'", "group of fields"]),
        ([SGD, "training.optimizer.momentum=0", "training.optimizer.nesterov=true"], ["nesterov", "momentum above 0"]),
        (["training.batch_size=0"], ["training.batch_size", "got 0"]),
        (["training.batch_size=yes"], ["batch_size is True", "digits"]),
        (["training.duration=600"], ["training.duration", "600", "'50000it'", "'160ep'"]),
        (["training.duration=-5it"], ["training.duration", "'-5it'", "'50000it'"]),
        (["training.duration=0ep"], ["training.duration", "0ep", "at least one step"]),
        (["training.evaluate_every=0it"], ["training.evaluate_every", "0it", "at least one step"]),
        (["training.evaluate_every=601it"], ["training.evaluate_every", "601it", "at most 600it"]),
        (["training.schedule={kind: cosine, warmup: 601it}"], ["training.schedule.warmup", "601it", "at most 600it"]),
        (["training.schedule={kind: step}"], ["training.schedule.milestones", "missing"]),
        (["training.schedule={kind: step, milestones: []}"], ["training.schedule.milestones", "[20000it, 25000it]"]),
        (["training.schedule={kind: step, milestones: 5it}"], ["training.schedule.milestones", "'5it'", "list"]),
        (["training.schedule={kind: step, milestones: [20it, 10it]}"], ["milestones", "20it comes before 10it"]),
        (["training.schedule={kind: linear}"], ["training.schedule", "'linear'", "constant, step, cosine"]),
        (["training.precision=fp8"], ["training.precision", "'fp8'", "'tf32'"]),
        (["training.lr=0.1"], ["training.lr", "no such field", "optimizer"]),
        (["trainig.duration=5it"], ["trainig", "did you mean training?"]),
        (["seeds=0-4"], ["seeds", "no such field", "dataset"]),
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
        (["pruning.scope=everywhere"], ["pruning.scope", "'everywhere'", "'layer', 'global'"]),
        (["pruning.criterion=magnitud"], ["pruning", "criterion 'magnitud'", "did you mean 'magnitude'?"]),
        (["pruning.output_factor=-0.5"], ["pruning.output_factor", "got -0.5"]),
        ([LATE.replace("10it", "601it")], ["rewinding.step", "601it", "600it", "earlier"]),
        ([LATE.replace("10it", "600it")], ["rewinding.step", "600it", "earlier"]),
        (["rewinding.step=5it"], ["rewinding.step", "kind 'init' has no such field", "'step' has"]),
        (["rewinding.kind=late"], ["rewinding", "'late'", "init, step, learning_rate, fine_tune, none"]),
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
    ("rewind", "duration"), [("5000it", "160ep"), ("2ep", "600it"), ("159ep", "160ep"), ("0it", "1it")])
def test_rewind_steps_that_are_or_may_be_within_the_training_are_accepted(rewind: str, duration: str) -> None:
    """Steps against epochs can only be judged once the data set is known."""
    experiment = load_experiment("digits", [f"training.duration={duration}", "training.evaluate_every=1it",
                                            f"rewinding={{kind: step, step: {rewind}}}"])

    assert experiment.rewinding == RewindToStep(step=rewind)


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
