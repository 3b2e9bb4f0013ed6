"""Networks of the user's own, by import path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from lth.errors import InvalidExperiment
from lth.models import build_model, model_names, prunable_tensors, register_model
from lth.models.registry import MODELS

SHAPE = (1, 4, 4)
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module into an importable folder and returns its name, which no other test has used."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text: str) -> str:
        name = f"networks_{abs(hash(tmp_path))}"
        (tmp_path / f"{name}.py").write_text("import torch\nfrom torch import nn\n" + text)
        return name

    yield write
    for name in set(sys.modules) - known:
        if name.startswith("networks_"):
            del sys.modules[name]


def refusal(name: str, arguments: dict[str, object] | None = None) -> str:
    with pytest.raises(InvalidExperiment) as caught:
        build_model(name, SHAPE, 3, arguments)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert name in text
    return text


def test_a_factory_is_given_what_it_takes(write: Write) -> None:
    name = write("""
def both(input_shape, classes, width=5):
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[1] * input_shape[2], width), nn.Linear(width, classes))
def neither(width=5):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.Linear(width, 3))
def classes_only(*, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, classes))
def everything(**given):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, given["width"]), nn.Linear(given["width"], given["classes"]))
class Class(nn.Module):
    def __init__(self, classes: int, width: int = 5) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.Linear(width, classes))
    def forward(self, x):
        return self.layers(x)
""")
    for factory, arguments, shapes in (
        ("both", {}, [(5, 16), (3, 5)]),
        ("both", {"width": 7}, [(7, 16), (3, 7)]),
        ("neither", {"width": 7}, [(7, 16), (3, 7)]),
        ("classes_only", {}, [(3, 16)]),
        ("everything", {"width": 7}, [(7, 16), (3, 7)]),
        ("Class", {"width": 7}, [(7, 16), (3, 7)]),
    ):
        module = build_model(f"{name}:{factory}", SHAPE, 3, arguments)
        assert [tensor.shape for tensor in prunable_tensors(module, SHAPE, 3)] == shapes


def test_a_module_in_a_package_and_in_the_folder_that_the_command_runs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "networks_of_mine"
    package.mkdir()
    (package / "small.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    # As in a command that is started as a program: its own folder is searched, the working folder is not.
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])

    assert isinstance(build_model("networks_of_mine.small:make", SHAPE, 3), nn.Module)


def test_lazy_layers_get_their_shapes(write: Write) -> None:
    name = write(
        "def make(classes):\n    return nn.Sequential(nn.Flatten(), nn.LazyLinear(5), nn.LazyBatchNorm1d(), "
        "nn.LazyLinear(classes))\n"
    )
    module = build_model(f"{name}:make", SHAPE, 3)

    assert module.training
    assert {key: tuple(tensor.shape) for key, tensor in module.named_parameters()} == {
        "1.weight": (5, 16),
        "1.bias": (5,),
        "2.weight": (5,),
        "2.bias": (5,),
        "3.weight": (3, 5),
        "3.bias": (3,),
    }
    assert torch.equal(module.get_buffer("2.running_mean"), torch.zeros(5))


def test_a_module_that_does_not_import_is_refused(write: Write) -> None:
    assert "ModuleNotFoundError" in refusal("no_such_package_here:make")
    assert "importable from here" in refusal("no_such_package_here:make")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("def make(:\n", "SyntaxError"),
        ("raise RuntimeError('first\\nsecond')\n", "RuntimeError: first;"),
        ("import no_such_thing_at_all\n", "no_such_thing_at_all"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
    ],
)
def test_a_module_that_fails_while_it_is_imported_is_refused(write: Write, text: str, wanted: str) -> None:
    name = write(text)

    answer = refusal(f"{name}:make")
    assert f"importing {name!r} failed" in answer
    assert wanted in answer
    assert "importable from here" in answer


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "has no callable 'make'"),
        ("make = nn.Linear(4, 3).weight\n", "has no callable 'make'"),
        ("def make():\n    return 3\n", "returned int, not a torch.nn.Module"),
        ("def make():\n    return nn.Linear\n", "returned type, not a torch.nn.Module"),
        ("def make():\n    pass\n", "returned NoneType, not a torch.nn.Module"),
        ("def make():\n    raise ValueError('first\\nsecond')\n", "ValueError: first; mend"),
        ("def make():\n    assert False\n", "AssertionError; mend"),
        ("def make():\n    raise SystemExit\n", "SystemExit; mend"),
        ("def make(depth):\n    return nn.Flatten()\n", "missing 1 required positional argument: 'depth'"),
        ("def make():\n    return nn.Sequential(nn.LazyLinear(3), nn.Linear(7, 3))\n", "does not run on inputs"),
    ],
)
def test_a_factory_that_makes_no_module_is_refused(write: Write, text: str, wanted: str) -> None:
    assert wanted in refusal(f"{write(text)}:make")


def test_wrong_arguments_are_named() -> None:
    answer = refusal("mlp", {"widths": [3]})

    assert "{'widths': [3]}" in answer
    assert "unexpected keyword argument 'widths'" in answer


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    assert refusal("perceptron") == f"unknown model 'perceptron'; known: {', '.join(model_names())}"


def test_a_registered_network_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODELS, "_entries", dict(MODELS._entries))

    @register_model("tiny", "one layer")
    def tiny(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(16, classes))

    assert isinstance(build_model("tiny", SHAPE, 3), nn.Sequential)


def test_weights_come_from_the_generator_of_the_caller() -> None:
    def weights(seed: int) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_model("mlp", SHAPE, 3).get_parameter("1.weight").detach()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
