"""Reading an experiment: presets, YAML files, settings; what overrides what; what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lth.errors import InvalidExperiment
from lth.experiment import Experiment, load_experiment, preset_names, preset_text

FILE = """\
name: mine
dataset: {name: mnist, validation: 4000}
training:
  optimizer: {kind: sgd, learning_rate: 0.05, momentum: 0.8}
  duration: 2000it
pruning: {levels: 3}
"""
SETTINGS = [
    "name=mine",
    "dataset.name=mnist",
    "dataset.validation=4000",
    "training.optimizer.kind=sgd",
    "training.optimizer.learning_rate=0.05",
    "training.optimizer.momentum=0.8",
    "training.duration=2000it",
    "pruning.levels=3",
]


def written(folder: Path, text: str, name: str = "experiment.yaml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(source: str, settings: list[str] | None = None) -> str:
    with pytest.raises(InvalidExperiment) as caught:
        load_experiment(source, settings or [])
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    return text


def test_a_file_the_form_and_settings_give_the_same_experiment(tmp_path: Path) -> None:
    from_file = load_experiment(written(tmp_path, FILE))
    from_form = Experiment.model_validate(json.loads(json.dumps(yaml.safe_load(FILE))))
    from_settings = load_experiment(written(tmp_path, "{}", "empty.yaml"), SETTINGS)

    assert from_file == from_form == from_settings
    assert from_file.id == from_form.id == from_settings.id
    assert from_file.pruning.levels == 3
    assert from_file.training.duration == "2000it"


@pytest.mark.parametrize("name", ["lenet-mnist", "conv2-cifar10", "conv4-cifar10", "conv6-cifar10"])
def test_published_presets_say_what_was_published(name: str) -> None:
    """Frankle & Carbin (2019), figure 2: networks, optimizers and pruning rates."""
    #               network   iterations  rate    conv  dense  data set
    published = {
        "lenet-mnist": ("mlp", "50000it", 1.2e-3, None, 0.2, "mnist"),
        "conv2-cifar10": ("conv2", "20000it", 2e-4, 0.1, 0.2, "cifar10"),
        "conv4-cifar10": ("conv4", "25000it", 3e-4, 0.1, 0.2, "cifar10"),
        "conv6-cifar10": ("conv6", "30000it", 3e-4, 0.15, 0.2, "cifar10"),
    }
    network, duration, rate, conv, dense, data = published[name]
    experiment = load_experiment(name)
    optimizer = experiment.training.optimizer

    assert experiment.name == name
    assert (experiment.model.name, experiment.dataset.name) == (network, data)
    assert experiment.model.arguments == ({"hidden": [300, 100]} if network == "mlp" else {})
    assert experiment.model.initialisation == "glorot_normal"
    assert (experiment.model.prunable, experiment.model.output_layer) == (None, None)
    assert (optimizer.kind, optimizer.learning_rate, optimizer.weight_decay) == ("adam", rate, 0)
    assert (optimizer.beta1, optimizer.beta2, optimizer.epsilon) == (0.9, 0.999, 1e-8)
    assert (experiment.training.schedule.kind, experiment.training.schedule.warmup) == ("constant", "0it")
    assert (experiment.training.duration, experiment.training.batch_size) == (duration, 60)
    assert (experiment.training.evaluate_every, experiment.dataset.validation) == ("100it", 5000)
    assert (experiment.dataset.crop_padding, experiment.dataset.flip) == (0, False)
    assert experiment.training.precision == "float32"
    assert (experiment.pruning.criterion, experiment.pruning.scope) == ("magnitude", "layer")
    assert experiment.pruning.schedule == "iterative"
    assert experiment.pruning.fraction.dense == dense
    if conv is not None:
        assert experiment.pruning.fraction.conv == conv
    assert experiment.pruning.output_factor == 0.5
    assert experiment.pruning.levels >= 19  # the sparsest published LeNet has 1.5% left
    assert experiment.rewinding.kind == "init"
    assert experiment.draws() == [("ticket", 0), ("reinit", 0), ("reinit", 1), ("reinit", 2), ("random_mask", 0)]


def test_the_presets_that_there_are() -> None:
    assert preset_names() == [
        "breast-cancer",
        "conv2-cifar10",
        "conv4-cifar10",
        "conv6-cifar10",
        "diabetes",
        "digits",
        "lenet-mnist",
        "lenet-mnist-snip",
        "resnet20-cifar10",
        "resnet20-cifar10-late",
        "resnet20-cifar10-low",
        "resnet20-cifar10-warmup",
        "smoke",
        "vgg16-cifar10",
        "vgg16-cifar10-late",
        "vgg19-cifar10",
        "vgg19-cifar10-warmup",
    ]
    for name in preset_names():
        assert load_experiment(name).name == name
        assert preset_text(name).startswith("# ")  # says of itself what it is


def test_the_digits_preset_is_the_small_demonstration() -> None:
    experiment = load_experiment("digits")

    assert experiment.dataset.name == "digits"  # bundled: needs no network
    assert experiment.model.arguments == {"hidden": [300, 100]}
    assert (experiment.training.optimizer.learning_rate, experiment.training.batch_size) == (1.2e-3, 60)
    assert (experiment.training.duration, experiment.pruning.levels) == ("600it", 12)
    assert [arm.name for arm in experiment.arms] == ["ticket", "reinit", "random_mask"]


def test_a_file_may_begin_from_a_preset(tmp_path: Path) -> None:
    base = load_experiment("lenet-mnist")
    variant = load_experiment(written(tmp_path, "preset: lenet-mnist\nname: short\ntraining: {duration: 2000it}\n"))

    expected = base.model_dump(mode="json")
    expected["name"] = "short"
    expected["training"]["duration"] = "2000it"
    assert variant.model_dump(mode="json") == expected


def test_settings_come_last(tmp_path: Path) -> None:
    source = written(tmp_path, "preset: lenet-mnist\ntraining: {duration: 2000it}\n")

    assert load_experiment(source, ["training.duration=100it"]).training.duration == "100it"
    assert load_experiment(source, ["pruning.levels=3", "pruning.levels=4"]).pruning.levels == 4


def test_a_file_without_a_name_is_named_after_itself(tmp_path: Path) -> None:
    assert load_experiment(written(tmp_path, "{}", "wide-net.yaml")).name == "wide-net"
    assert "'wide net'" in refusal(written(tmp_path, "{}", "wide net.yaml"))


def test_another_kind_of_optimizer_starts_afresh(tmp_path: Path) -> None:
    source = written(tmp_path, "training: {optimizer: {kind: adam, learning_rate: 0.7, beta1: 0.5, weight_decay: 0.1}}")
    # Nothing of Adam's settings is left, not even the learning rate: SGD's own defaults count.
    for setting in ("training.optimizer.kind=sgd", "training.optimizer={kind: sgd}"):
        sgd = load_experiment(source, [setting]).training.optimizer
        assert sgd.model_dump() == {
            "kind": "sgd",
            "learning_rate": 0.1,
            "momentum": 0.9,
            "nesterov": False,
            "weight_decay": 0.0,
        }
    # What the person sets beside it is never dropped silently.
    assert "kind 'sgd' has no such field; 'adam' and 'adamw' have" in refusal(
        source, ["training.optimizer.beta1=0.4", setting]
    )
    # The same kind keeps what is not mentioned.
    adam_again = load_experiment("digits", ["training.optimizer={kind: adam, beta1: 0.5}"]).training.optimizer
    assert adam_again.learning_rate == 0.0012


@pytest.mark.parametrize("order", [1, -1])
def test_settings_beside_a_change_of_kind_count_in_any_order(order: int) -> None:
    settings = ["training.optimizer.kind=sgd", "training.optimizer.momentum=0.5"][::order]

    assert load_experiment("digits", settings).training.optimizer.model_dump()["momentum"] == 0.5


@pytest.mark.parametrize("order", [1, -1])
def test_another_network_does_not_inherit_the_arguments_of_the_old_one(order: int) -> None:
    base = ["model.initialisation=kaiming_normal", "model.output_layer=5.weight"]
    assert load_experiment("digits", ["model.name=conv2"]).model.arguments == {}

    settings = ["model.name=my_networks:wide", "model.arguments.width=7"][::order]
    model = load_experiment("digits", [*base[:1], *settings]).model
    assert model.arguments == {"width": 7}
    assert model.initialisation == "kaiming_normal"
    # Naming the same network again changes nothing.
    assert load_experiment("digits", ["model.name=mlp"]) == load_experiment("digits")


def test_one_kind_of_fraction_changes_and_the_other_keeps_the_single_number(tmp_path: Path) -> None:
    source = written(tmp_path, "pruning: {fraction: 0.2}\n")

    fraction = load_experiment(source, ["pruning.fraction.dense=0.3"]).pruning.fraction
    assert (fraction.dense, fraction.conv) == (0.3, 0.2)


def test_a_part_without_its_kind_is_of_the_default_kind(tmp_path: Path) -> None:
    source = written(tmp_path, "training: {optimizer: {beta1: 0.5}, schedule: {warmup: 5it}}")
    training = load_experiment(source).training

    assert (training.optimizer.kind, training.optimizer.model_dump()["beta1"]) == ("adam", 0.5)
    assert (training.schedule.kind, training.schedule.warmup) == ("constant", "5it")
    assert load_experiment("digits", ["rewinding={}"]).rewinding.kind == "init"


def test_settings_are_yaml_values() -> None:
    experiment = load_experiment(
        "digits",
        [
            "model.arguments.hidden=[20, 10]",
            "dataset.flip=true",
            "training.optimizer.learning_rate=1e-3",
            "model.prunable=null",
            "training.duration=0700it",
        ],
    )

    assert experiment.model.arguments == {"hidden": [20, 10]}
    assert experiment.dataset.flip is True
    assert experiment.training.optimizer.learning_rate == 0.001
    assert experiment.model.prunable is None
    assert experiment.training.duration == "700it"


@pytest.mark.parametrize("setting", ["training.duration", "=2", "a..b=1", ".=1", "training.=5"])
def test_a_setting_that_is_none_is_refused(setting: str) -> None:
    assert refusal("digits", [setting]) == (f"--set {setting!r} is not key=value; e.g. --set training.duration=2000it")


@pytest.mark.parametrize("text", ["[", "!!python/name:os.system", "*x", "{a: 1, a: 2}", "[" * 5000])
def test_a_setting_that_yaml_cannot_read_counts_as_text(text: str) -> None:
    assert load_experiment("digits", [f"model.arguments.x={text}"]).model.arguments["x"] == text


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("digit", ["'digit'", "did you mean 'digits'?", "lenet-mnist"]),
        ("lenet", ["'lenet'", "neither a preset nor a file", "lenet-mnist"]),
        ("no/such/file.yaml", ["'no/such/file.yaml'", "neither a preset nor a file", "smoke"]),
        ("", ["''", "neither a preset nor a file"]),
    ],
)
def test_an_unknown_preset_is_answered_with_the_known_ones(source: str, wanted: list[str]) -> None:
    text = refusal(source)
    assert [part for part in wanted if part not in text] == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("name: !!python/object/apply:os.system ['true']\n", ["line 1", "Python object", "plain data"]),
        ("a: 1\nmodel: !!python/name:os.system\n", ["line 2", "Python object"]),
        ("name: !custom 3\n", ["line 1", "!custom"]),
        ("name: a\ntraining: {duration: 5it}\ntraining: {duration: 6it}\n", ["line 3", "'training'", "twice"]),
        ("model: {name: mlp, name: conv2}\n", ["line 1", "'name'", "twice"]),
        ("- 1\n- 2\n", ["mapping", "list"]),
        ("", ["is empty", "mapping"]),
        ("just words\n", ["mapping", "str"]),
        ("a: [1, 2\n", ["line 2"]),
        ("a: 1\n\tb: 2\n", ["line 2"]),
        ("name: a\n---\nname: b\n", ["single document"]),
        ("{[1]: 2}\n", ["line 1", "unhashable"]),
        ("1: 2\n", ["1", "keys should be strings"]),
        ("name: \x00\n", ["character"]),
        ("[" * 5000, ["nested too deeply"]),
        ("preset: lenet-minst\n", ["'lenet-minst'", "did you mean 'lenet-mnist'?"]),
        ("preset: 3\n", ["unknown preset 3", "digits"]),
        ("preset: [digits]\n", ["unknown preset ['digits']", "smoke"]),
        ("preset: digits\nseeds: 0-4\n", ["seeds is no part", "--seeds 0-4"]),
        ("training:\n", ["training", "group of fields", "None"]),
    ],
    ids=lambda value: repr(value)[:30] if isinstance(value, str) else None,
)
def test_a_file_that_is_no_experiment_is_refused_by_name(tmp_path: Path, text: str, wanted: list[str]) -> None:
    source = written(tmp_path, text)
    answer = refusal(source)

    assert [part for part in wanted if part not in answer] == []
    if "field" not in answer and "part" not in answer and "kind" not in answer and "keys" not in answer:
        assert answer.startswith(source)


def test_a_python_tag_is_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    refusal(
        written(
            tmp_path,
            f"name: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{trace}']]\n",
        )
    )
    assert not trace.exists()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"name: \xff\xfe\n")
    assert refusal(str(binary)).startswith(f"{binary}: cannot be read")
    assert "neither a preset nor a file" in refusal(str(tmp_path))


def test_these_rooms_start_light_and_know_nothing_of_orchestration() -> None:
    code = (
        "import sys, lth.experiment, lth.models, lth.pruning, lth.arms; lth.experiment.load_experiment('digits');"
        "heavy = ['prefect', 'ray', 'flows', 'tasks', 'torchvision', 'sklearn', 'matplotlib', 'duckdb', 's3fs'];"
        "print([name for name in heavy if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
