"""Code, versions and instructions are held fixed under an id, as the data are."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lth
from lth.catalogue import REGISTRIES, registry_of
from lth.errors import LthError
from lth.experiment import Experiment, load_experiment
from lth.sources import digest_of_code, digests_of_modules
from lth.store import Store
from lth.store.unit import pins_key
from lth.store.verify import verify
from lth.sweep import pins as pins_module
from lth.sweep.pins import Pins, changed_since, pin, pins_of, with_changes_accepted

NETWORK = '''
"""A network."""
import math

from torch import nn

from {package}widths import WIDTH


def net(input_shape, classes):
    """Two layers."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), WIDTH), nn.Tanh(), nn.Linear(WIDTH, classes))
'''
SETTINGS = ("training.duration=20it", "training.evaluate_every=10it", "arms=[ticket]")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `pinned_net.py`, which imports `widths.py` beside it, on Python's path."""
    (tmp_path / "pinned_net.py").write_text(NETWORK.format(package=""))
    (tmp_path / "widths.py").write_text("WIDTH = 12\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Any:
    for registry in (registry_of(what) for what in REGISTRIES):
        for entries in ("_entries", "_definitions"):
            monkeypatch.setattr(registry, entries, dict(getattr(registry, entries)))
    yield
    for name in ("pinned_net", "widths", "kept_sign_of", "halved_of"):
        sys.modules.pop(name, None)


def run(project: Path, seeds: str, levels: int, name: str = "pinned", **options: Any) -> lth.notebook.RunResults:
    """As a new process would: with the modules as they are now."""
    for module in ("pinned_net", "widths"):
        sys.modules.pop(module, None)
    importlib.invalidate_caches()
    settings = [*SETTINGS, f"name={name}", "model={name: 'pinned_net:net'}", f"pruning.levels={levels}"]
    pins_of_networks_forget()
    return lth.run("smoke", seeds, store=project / "store", settings=settings, progress=False, **options)


def pins_of_networks_forget() -> None:
    from lth.sweep import networks, setup

    networks._network.cache_clear()
    setup._setup.cache_clear()


@pytest.mark.parametrize("file", ["pinned_net.py", "widths.py"])
def test_a_network_that_changes_under_its_id_is_refused_and_goes_on_under_a_new_one(project: Path, file: str) -> None:
    first = run(project, "0", 1)
    text = (project / file).read_text()
    (project / file).write_text(text.replace("Tanh", "Sigmoid").replace("12", "13"))
    with pytest.raises(LthError) as raised:
        run(project, "0-1", 2)
    line = str(raised.value)
    assert line.startswith(f"{first.experiment_id} began with something else: ") and "\n" not in line
    assert f"{file} has changed (digest " in line and "--accept-changes" in line
    other = run(project, "0-1", 2, accept_changes=True)
    assert other.experiment_id != first.experiment_id and other.levels.num_rows == 2 + 2 * 2
    assert run(project, "0-1", 2, accept_changes=True).experiment_id == other.experiment_id
    (project / file).write_text(text)
    assert run(project, "0-1", 2).experiment_id == first.experiment_id
    assert not verify(Store(project / "store")).findings


def test_comments_docstrings_and_layout_are_no_difference(project: Path) -> None:
    run(project, "0", 0)
    text = (project / "pinned_net.py").read_text()
    text = text.replace('"""Two layers."""', "# tanh, as ever\n").replace(
        "nn.Tanh(), ", "\n        nn.Tanh(),\n        "
    )
    (project / "pinned_net.py").write_text(text)
    assert run(project, "0-1", 0).levels.num_rows == 2


def test_a_release_that_changes_no_bits_is_no_difference_and_another_engine_or_torch_is(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(project, "0", 0)
    monkeypatch.setattr("lth.sweep.record.__version__", "0.2.0")
    run(project, "0-1", 0)
    monkeypatch.setattr(pins_module, "ENGINE_VERSION", "99")
    with pytest.raises(LthError, match="began with something else: the engine's version is 99, then 1; put that back"):
        run(project, "0-2", 0)


def test_a_sweep_of_before_pins_is_taken_and_given_them(project: Path) -> None:
    first = run(project, "0", 0)
    store = Store(project / "store")
    for file in (project / "store" / "experiments" / first.experiment_id / "pins").iterdir():
        file.unlink()
    run(project, "0-1", 0)
    (record,) = store.pins(first.experiment_id)
    assert set(record["sources"]) == {"pinned_net.py", "widths.py", "model pinned_net:net"}
    assert (record["engine"], record["instructions"]) == (lth.version.ENGINE_VERSION, lth.processor.instructions())


def test_an_arm_of_ones_own_may_be_added_later_and_not_changed(project: Path) -> None:
    arm = (
        "from dataclasses import replace\nfrom lth.arms import register_arm\n\n\n"
        "@register_arm('halved_of', 'half the weights', random=False, fresh=True)\n"
        "def halved(ticket, draw):\n    return replace(ticket, weights=ticket.weights / 2)\n"
    )
    (project / "halved_of.py").write_text(arm)
    settings = [*SETTINGS, "name=arms", "pruning.levels=1"]
    more = [*settings, "imports=[halved_of]", "arms=[ticket, halved_of]"]
    lth.run("smoke", "0", store=project / "store", settings=settings, progress=False)
    found = lth.run("smoke", "0", store=project / "store", settings=more, progress=False)
    assert found.levels.num_rows == 3
    assert sorted(map(len, (record["sources"] for record in Store(project / "store").pins(found.experiment_id)))) == [
        0,
        2,
    ]
    (project / "halved_of.py").write_text(arm.replace("/ 2", "/ 3"))
    with pytest.raises(LthError, match="halved_of.py has changed"):
        lth.run("smoke", "0-1", store=project / "store", settings=more, progress=False)


def test_built_in_experiments_pin_no_code() -> None:
    for preset in ("smoke", "digits", "resnet20-cifar10", "breast-cancer", "lenet-mnist-snip"):
        assert pins_of(load_experiment(preset)).sources == {}


PINS = Pins("1", "2.13.0", "AVX2", {"net.py": "0" * 16})


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"engine": "2"}, "the engine's version is 2, then 1"),
        ({"torch": "2.14.0"}, "torch is 2.14.0, then 2.13.0"),
        ({"instructions": "AVX512"}, "the CPU's instruction set is AVX512, then AVX2"),
        ({"sources": {"net.py": "1" * 16}}, f"net.py has changed (digest {'1' * 16}, then {'0' * 16})"),
    ],
)
def test_every_pin_is_held(tmp_path: Path, other: dict[str, Any], said: str) -> None:
    store = Store(tmp_path)
    pin(store, "x-0123456789", PINS, on_cpu=True)
    pin(store, "x-0123456789", PINS, on_cpu=True)
    assert len(store.pins("x-0123456789")) == 1
    assert changed_since(store, "x-0123456789", replace(PINS, **other)) == [said]
    with pytest.raises(LthError, match="put that back, or go on under a new id with --accept-changes"):
        pin(store, "x-0123456789", replace(PINS, **other), on_cpu=True)
    assert len(store.pins("x-0123456789")) == 1


def test_instructions_matter_where_a_cpu_trains(tmp_path: Path) -> None:
    store = Store(tmp_path)
    pin(store, "x-0123456789", replace(PINS, instructions="SVE256"), on_cpu=False)
    pin(store, "x-0123456789", PINS, on_cpu=True)  # the first on a CPU
    pin(store, "x-0123456789", replace(PINS, instructions="SVE256"), on_cpu=False)
    with pytest.raises(LthError, match="instruction set is SVE256, then AVX2"):
        pin(store, "x-0123456789", replace(PINS, instructions="SVE256"), on_cpu=True)


def test_accepting_nothing_changes_nothing(tmp_path: Path) -> None:
    experiment, store = load_experiment("smoke"), Store(tmp_path)
    assert with_changes_accepted(store, experiment, PINS) is experiment
    pin(store, experiment.id, PINS, on_cpu=True)
    assert with_changes_accepted(store, experiment, PINS) is experiment
    changed = [with_changes_accepted(store, experiment, replace(PINS, engine=engine)) for engine in "233"]
    assert changed[0].id != changed[1].id == changed[2].id
    assert Experiment.model_validate(changed[0].model_dump()) == changed[0]


def test_verify_names_records_that_contradict_each_other_and_one_that_is_damaged(project: Path) -> None:
    found = run(project, "0", 0)
    store = Store(project / "store")
    store.put_pins(found.experiment_id, {"engine": "1", "torch": "0", "instructions": "AVX2", "sources": {}})
    reasons = [finding.reason for finding in verify(store).findings]
    assert len(reasons) == 1 and reasons[0].startswith("sweeps began with different torch: 0, ")
    (name,) = (
        path
        for path in (project / "store/experiments" / found.experiment_id / "pins").iterdir()
        if json.loads(path.read_text())["torch"] != "0"
    )
    name.write_text(name.read_text().replace("AVX", "AVY").replace("DEF", "DEG"))
    (finding,) = verify(store).findings
    assert (finding.trouble, finding.key) == ("damaged", pins_key(found.experiment_id, name.stem))


def test_packages_are_followed_without_being_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file, text in {
        "ours_pkg/__init__.py": "raise SystemExit('run')",
        "ours_pkg/nets/__init__.py": "",
        "ours_pkg/nets/wide.py": "from ..parts import block\nfrom . import sizes\nimport numpy, json, torch.nn",
        "ours_pkg/nets/sizes.py": "import ours_pkg.parts.deep",
        "ours_pkg/parts/__init__.py": "",
        "ours_pkg/parts/block.py": "",
        "ours_pkg/parts/deep.py": "import ours_pkg.nets.wide",
        "ours_pkg/unused.py": "",
    }.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    found = digests_of_modules(["ours_pkg.nets.wide"])
    assert set(found) == {
        "ours_pkg/__init__.py",
        "ours_pkg/nets/__init__.py",
        "ours_pkg/nets/wide.py",
        "ours_pkg/nets/sizes.py",
        "ours_pkg/parts/__init__.py",
        "ours_pkg/parts/block.py",
        "ours_pkg/parts/deep.py",
    }
    assert "ours_pkg" not in sys.modules
    assert digests_of_modules(["torchvision.models", "no_such_module"]) == {
        "torchvision": importlib.metadata.version("torchvision")
    }


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("x = 1", "x = 1  # one", True),
        ("def f():\n    'does'\n    return 1", "def f(): return 1", True),
        ("f(a, b)", "f(\n    a,\n    b,\n)", True),
        ("x = 'a'", 'x = "a"', True),
        ("x = 1", "x = 1.0", False),
        ("x = 1", "x = True", False),
        ("x = a - b", "x = b - a", False),
        ("def f(x=1): pass", "def f(x=2): pass", False),
        ("x = [1, 2]", "x = [1], 2", False),
        ("x = 'a' 'b'", "x = 'a', 'b'", False),
        ("if a:\n    b()\nc()", "if a:\n    b()\n    c()", False),
        ("f('docs')", "f('others')", False),
        ("no python", "no  python", False),
    ],
)
def test_what_counts_as_a_change_of_code(one: str, other: str, same: bool) -> None:
    assert (digest_of_code(one) == digest_of_code(other)) is same


SCRIPT = """
import math
from torch import nn
import lth
from lth.models import register_model

WIDTH = {width}

def layers(n, classes):
    return [nn.Linear(n, WIDTH), nn.ReLU(), nn.Linear(WIDTH, classes)]

@register_model("in_a_script", "defined here")
def net(input_shape, classes):
    return nn.Sequential(nn.Flatten(), *layers(math.prod(input_shape), classes))

found = lth.run("smoke", {seeds!r}, store="store", progress=False,
                settings=["model={{name: in_a_script}}", "training.duration=20it", "pruning.levels=0"])
print(found.levels.num_rows)
"""


@pytest.mark.services
@pytest.mark.parametrize("how", ["a file", "python -c"])
def test_what_a_script_or_notebook_defines_is_pinned_without_the_rest_of_it(tmp_path: Path, how: str) -> None:
    def said(seeds: str, width: int) -> str:
        text = SCRIPT.format(seeds=seeds, width=width)
        (tmp_path / "script.py").write_text(text)
        command = ["script.py"] if how == "a file" else ["-c", text]
        environment = {**os.environ, "PYTHONPATH": str(Path(lth.__file__).parents[1])}
        answer = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        return answer.stdout.strip() or answer.stderr.strip().splitlines()[-1]

    assert said("0", 8) == "1"
    assert said("0-1", 8) == "2"
    if how == "a file":  # of `python -c` no source is kept, only what it was compiled to
        assert "model in_a_script has changed" in said("0-2", 9)
