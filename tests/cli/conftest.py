from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.cli import main

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lth(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run a command line in this process, in an empty folder: (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("LTH_STORE", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lth", *arguments])
        try:
            main()
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture
def command(lth: Command) -> Command:
    """The same, for tests that use the package `lth` by its name, too."""
    return lth
