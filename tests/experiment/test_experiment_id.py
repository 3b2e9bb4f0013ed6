"""The id of an experiment: what decides a training is in it, and nothing else."""

from __future__ import annotations

import json
import math

import pytest

from lth.experiment import (
    Experiment,
    canonical_json,
    digest,
    load_experiment,
    preset_names,
)
from lth.experiment.load import field_paths

RMSPROP = "training.optimizer={kind: rmsprop}"
RESTARTS = "training.schedule={kind: cosine_restarts, period: 100it}"
LINEAR = "training.schedule={kind: linear}"
SGD = "training.optimizer={kind: sgd, learning_rate: 0.1, momentum: 0.9}"
STEP = "training.schedule={kind: step, milestones: [100it]}"
LATE = "rewinding={kind: step, step: 10it}"
PARQUET = "dataset={name: parquet, path: birds, validation: 240}"
TABLE = "dataset={name: table, path: hearts, target: label, validation: 240}"
DENSITIES = [
    "pruning.scope=global",
    "pruning.fraction=0.2",
    "pruning.output_factor=1",
    "pruning.levels=1",
    "pruning.densities=[0.5]",
]
TAKEN = ["pruning.fraction={dense: 0.2, conv: 0.1}", "transfer.experiment=mnist-0123456789"]
FINE_TUNE = "rewinding={kind: fine_tune, duration: 10it}"

# For every field that decides a training: settings in which it exists, and settings that differ in it alone.
DECIDING: dict[str, tuple[list[str], list[str]]] = {
    "dataset.name": ([], ["dataset.name=mnist"]),
    "dataset.path": ([PARQUET], [PARQUET.replace("birds", "trees")]),
    "dataset.target": ([TABLE], [TABLE.replace("label", "age")]),
    "dataset.target_kind": ([TABLE], [TABLE, "dataset.target_kind=number"]),
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
    "training.optimizer.decay": ([RMSPROP], [RMSPROP, "training.optimizer.decay=0.9"]),
    "training.schedule.period": ([RESTARTS], [RESTARTS, "training.schedule.period=101it"]),
    "training.schedule.end": ([LINEAR], [LINEAR, "training.schedule.end=0.1"]),
    "objective.kind": ([], ["objective={kind: regression}"]),
    "objective.score": ([], ["objective.score=auroc"]),
    "training.clip_norm": ([], ["training.clip_norm=1"]),
    "training.watchers.kind": ([], ["training.watchers=[movement]"]),
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
    "pruning.scope": (
        ["pruning.fraction=0.2", "pruning.output_factor=1"],
        ["pruning.fraction=0.2", "pruning.output_factor=1", "pruning.scope=global"],
    ),
    "pruning.schedule": ([], ["pruning.schedule=one_shot"]),
    "pruning.fraction.dense": ([], ["pruning.fraction.dense=0.28"]),
    "pruning.fraction.conv": ([], ["pruning.fraction.conv=0.2"]),
    "pruning.output_factor": ([], ["pruning.output_factor=0.6"]),
    "pruning.densities": (DENSITIES, [*DENSITIES, "pruning.densities=[0.4]"]),
    "pruning.rounds": ([], ["pruning.rounds=2"]),
    "pruning.scoring.examples": (["pruning.criterion=snip"], ["pruning.criterion=snip", "pruning.scoring.examples=64"]),
    "pruning.scoring.per_class": (
        ["pruning.criterion=grasp"],
        ["pruning.criterion=grasp", "pruning.scoring.per_class=5"],
    ),
    "pruning.scoring.batch_size": (
        ["pruning.criterion=taylor"],
        ["pruning.criterion=taylor", "pruning.scoring.batch_size=50"],
    ),
    "pruning.scoring.temperature": (
        ["pruning.criterion=grasp"],
        ["pruning.criterion=grasp", "pruning.scoring.temperature=1"],
    ),
    "pruning.scoring.mode": (["pruning.criterion=snip"], ["pruning.criterion=snip", "pruning.scoring.mode=eval"]),
    "pruning.scoring.halves": (["pruning.criterion=grasp"], ["pruning.criterion=grasp", "pruning.scoring.halves=true"]),
    "pruning.allow_empty_layers": ([], ["pruning.allow_empty_layers=true"]),
    "rewinding.kind": ([], [LATE]),
    "transfer.experiment": (TAKEN, [*TAKEN, "transfer.experiment=mnist-0123456780"]),
    "transfer.ticket": (
        [*TAKEN[:1], "pruning.levels=1", f"transfer.ticket={'a' * 64}"],
        [*TAKEN[:1], "pruning.levels=1", f"transfer.ticket={'b' * 64}"],
    ),
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
    others = [
        f"rewinding={{kind: {other}}}"
        for other in ("init", "step, step: 10it", "learning_rate", "fine_tune", "none")
        if other != kind
    ]

    assert load_experiment("digits", [f"rewinding={{kind: {kind}}}"]).id not in {
        load_experiment("digits", [other]).id for other in others
    }


def test_the_id_is_the_name_and_ten_hex_digits_of_the_deciding_content() -> None:
    experiment = load_experiment("digits", ["name=my-own_1"])

    assert experiment.id == "my-own_1-" + digest(experiment.deciding())[:10]
    assert experiment.id.removeprefix("my-own_1") == load_experiment("digits").id.removeprefix("digits")


def test_presets_keep_their_ids() -> None:
    """A changed default orphans every result that lies in somebody's store: change an id here only on purpose."""
    assert {name: load_experiment(name).id for name in preset_names()} == {
        "breast-cancer": "breast-cancer-e991e40631",
        "conv2-cifar10": "conv2-cifar10-38a3034a14",
        "conv4-cifar10": "conv4-cifar10-3b9d9cecbc",
        "conv6-cifar10": "conv6-cifar10-1bffd09698",
        "diabetes": "diabetes-6ed77aecbb",
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
        "dataset": {
            "name": "digits",
            "path": None,
            "validation": 200,
            "standardise": "channel",
            "crop_padding": 0,
            "flip": False,
        },
        "model": {
            "name": "mlp",
            "arguments": {"hidden": [16]},
            "initialisation": "glorot_normal",
            "prunable": None,
            "output_layer": None,
        },
        "training": {
            "optimizer": {
                "kind": "adam",
                "learning_rate": 0.005,
                "beta1": 0.9,
                "beta2": 0.999,
                "epsilon": 1e-8,
                "weight_decay": 0.0,
            },
            "schedule": {"kind": "constant", "warmup": "0it"},
            "batch_size": 32,
            "duration": "40it",
            "evaluate_every": "10it",
            "precision": "float32",
        },
        "pruning": {
            "remove": "weights",
            "criterion": "magnitude",
            "when": "after_training",
            "scope": "layer",
            "schedule": "iterative",
            "fraction": {"dense": 0.3, "conv": 0.1},
            "output_factor": 0.5,
            "densities": None,
            "rounds": None,
            "scoring": {"examples": None, "per_class": None, "batch_size": None, "temperature": None},
            "allow_empty_layers": False,
        },
        "rewinding": {"kind": "init"},
    }


def test_canonical_json_is_one_text_per_content() -> None:
    assert canonical_json({"b": 1, "a": {"d": [1.0, 1e-8, None], "c": "ß"}}) == canonical_json(
        {"a": {"c": "ß", "d": [1.0, 1e-8, None]}, "b": 1}
    )
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
