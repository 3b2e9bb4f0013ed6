"""Nothing depends on the names in the folder where one stands: who hides one of our packages is named in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lth.errors import InvalidExperiment
from lth.registry import import_module

ROOT = Path(__file__).parents[2]


def lth(
    folder: Path, *searched: str, command: tuple[str, ...] = ("-m", "lth_command")
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*searched, str(ROOT)])
    return subprocess.run(
        [sys.executable, *command, "list", "arms"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("searched", [["."], []], ids=["PYTHONPATH=.", "python -m"])
@pytest.mark.parametrize(
    "file", ["tasks.py", "flows.py", "lth.py", "lth/__init__.py", "tasks/__init__.py", "ray.py", "random.py", "yaml.py"]
)
def test_a_file_that_hides_what_we_need_is_named(file: str, searched: list[str], tmp_path: Path) -> None:
    mine = tmp_path / file
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("raise SystemExit('run')\n")
    answer = lth(tmp_path, *searched)
    assert answer.returncode == 1 and answer.stdout == ""
    assert answer.stderr.startswith(f"error: {mine} hides ") and len(answer.stderr.splitlines()) == 1
    assert "rename it, or start lth from another folder" in answer.stderr


def test_a_tasks_py_is_found_out_by_whatever_imports_flows(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("")
    answer = lth(tmp_path, ".", command=("-m", "flows.cli.main"))
    assert answer.returncode == 1 and answer.stderr.splitlines()[0].startswith(f"error: {tmp_path / 'tasks.py'} hides ")


def test_other_files_and_folders_are_left_alone(tmp_path: Path) -> None:
    for folder in ("lth", "flows", "tasks", "infra", "docs"):  # no packages
        (tmp_path / folder).mkdir()
    for file in ("infra.py", "experiment.py", "models.py", "data.py"):
        (tmp_path / file).write_text("raise SystemExit('run')\n")
    answer = lth(tmp_path, ".")
    assert answer.returncode == 0 and "ticket" in answer.stdout, answer.stderr


@pytest.mark.parametrize("name", ["tasks", "lth", "colorsys", "random"])
def test_a_module_of_the_users_that_is_hidden_itself_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{name}.py").write_text("")
    with pytest.raises(
        InvalidExperiment, match=rf"imports: '{name}' is .*, which hides {tmp_path}/{name}\.py; give your"
    ):
        import_module(name, "imports")


def test_an_editable_install_is_a_path_and_the_command_a_module_of_its_own() -> None:
    """A finder would come after every folder: `import lth` from the clone's parent would find the clone."""
    import tomllib

    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert (
        tools["tool"]["setuptools"]["package-dir"] == {"": "."}
        and "lth_command" in tools["tool"]["setuptools"]["py-modules"]
    )
    assert tools["project"]["scripts"]["lth"] == "lth_command:main"
