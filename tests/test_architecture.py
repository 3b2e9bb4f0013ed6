"""Imports run one way, and the engine stays light enough for a bare GPU box."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {"lth": {"tasks", "flows", "prefect", "ray"}, "tasks": {"flows"}, "flows": set()}


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", FORBIDDEN)
def test_imports_run_one_way(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert len(files) > 2
    for path in files:
        assert not imported(path) & FORBIDDEN[room], path


def modules_of_the_house() -> dict[str, Path]:
    """Every module of lth, tasks and flows: its dotted name and its file."""
    paths = [path for room in FORBIDDEN for path in (ROOT / room).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imports_between(modules: dict[str, Path]) -> dict[str, set[str]]:
    """For each module those of the house that it imports anywhere: at its top, in a function, or for types only."""
    imports: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.module and not node.level, f"{path} imports relatively"
                named = [f"{node.module}.{alias.name}" for alias in node.names]
                named = [whole if whole in modules else node.module for whole in named]
            else:
                continue
            imports[name].update(each for each in named if each in modules)
    return imports


def room_of(module: str) -> str:
    """`lth.engine` of `lth.engine.layout`; all of `tasks` and of `flows` is one room each."""
    return ".".join(module.split(".")[: 2 if module.startswith("lth.") else 1])


def circle_in(imports: dict[str, set[str]]) -> list[str]:
    """The names along one circle of imports, the first again at the end; empty if there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_a_circle_is_found() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) in (["b", "c", "b"], ["c", "b", "c"])
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    imports = imports_between(modules_of_the_house())
    assert "lth.engine" in imports["lth.sweep.setup"] and "tasks.remote" in imports["tasks.cluster"]
    assert circle_in(imports) == []


def test_no_room_imports_itself_by_way_of_others() -> None:
    rooms: dict[str, set[str]] = {}
    for module, imported_modules in imports_between(modules_of_the_house()).items():
        room = room_of(module)
        rooms.setdefault(room, set()).update(map(room_of, imported_modules))
        rooms[room].discard(room)
    assert "lth.engine" in rooms["lth.sweep"]
    assert circle_in(rooms) == []


def test_no_two_public_classes_share_a_name() -> None:
    where: dict[str, list[str]] = {}
    for module, path in modules_of_the_house().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where.setdefault(node.name, []).append(module)
    assert len(where) > 50
    assert {name: modules for name, modules in where.items() if len(modules) > 1} == {}


def test_the_engine_imports_torch_and_numpy_and_nothing_heavier() -> None:
    code = (
        "import sys, lth.engine; heavy = {'pydantic', 'prefect', 'ray', 'yaml', 's3fs', 'fsspec', 'pyarrow', "
        "'duckdb', 'matplotlib', 'torchvision', 'sklearn', 'scipy', 'typer', 'rich'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    # torch itself may bring some along where they are installed: those are not ours
    baseline = subprocess.run(
        [sys.executable, "-c", "import sys, torch, torch.func; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    code = code.replace("& set(sys.modules)", f"& (set(sys.modules) - set({sorted(set(baseline))!r}))")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_no_file_of_the_house_is_too_long_to_have_one_purpose() -> None:
    for room in FORBIDDEN:
        for path in (ROOT / room).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 400, path


UNPICKLERS = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {
    "torch.load",
    "torch.jit.load",
    "np.load",
    "numpy.load",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "yaml.load_all",
    "pd.read_pickle",
    "pandas.read_pickle",
    "pa.deserialize",
    "eval",
    "exec",
}


def unsafe(code: str) -> list[str]:
    """Ways to run what one reads that stand in a file."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in UNPICKLERS]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNPICKLERS:
            found.append(str(node.module))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in UNSAFE_CALLS:
            found.append(ast.unparse(node.func))
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load(f)",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "yaml.load(t, Loader)",
    ],
)
def test_such_code_is_found(code: str) -> None:
    assert unsafe(code)


@pytest.mark.parametrize("room", FORBIDDEN)
def test_nothing_that_is_read_is_run(room: str) -> None:
    """Stores hold Parquet, safetensors, JSON and YAML's safe part: who may write to one runs nothing on a reader."""
    for path in (ROOT / room).rglob("*.py"):
        assert not unsafe(path.read_text()), path
