"""The README's Python runs, on the preset for tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_notebooks_way_in_and_the_way_back_to_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LTH_STORE", raising=False)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    run, reopen = (block for block in blocks if "lth.run(" in block or "lth.results.open(" in block)
    assert '"digits", seeds=range(5)' in run
    found: dict[str, Any] = {}
    exec(run.replace('"digits"', '"smoke"'), found)
    assert found["results"].levels.num_rows == 5 * 7
    exec(reopen, again := {})
    assert again["results"].levels.equals(found["results"].levels)
