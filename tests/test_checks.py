"""What is checked before a commit is what `make lint` checks, and the package tells type checkers that it is typed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_hooks_run_the_commands_of_make_lint_from_the_projects_own_environment() -> None:
    """Every hook is local: none is downloaded, and each tool has the version of the constraints."""
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    hooks = {hook["id"]: hook for hook in repository["hooks"]}
    entries = [hook["entry"].removesuffix(" --force-exclude") for hook in hooks.values()]
    assert entries == [".venv/bin/ruff format", ".venv/bin/ruff check", ".venv/bin/mypy"]
    assert {hook["language"] for hook in hooks.values()} == {"system"}
    assert all({"name", "types_or"} <= hook.keys() or hook["pass_filenames"] is False for hook in hooks.values())

    _, _, recipe = (ROOT / "Makefile").read_text().partition("\nlint:")
    recipe = recipe.partition("\n\n")[0]
    for entry in entries:
        assert entry.replace(".venv/bin", "$(BIN)") in recipe, f"make lint does not run {entry}"


def test_the_package_ships_its_types_and_is_held_to_strict() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert (ROOT / "lth" / "py.typed").exists() and "py.typed" in settings["setuptools"]["package-data"]["lth"]
    assert settings["mypy"]["strict"] is True
