"""The README's Python runs, on the preset for tests, and its table is what `lth run digits` finds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import lth
from lth.processor import PINNED, instructions

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


def lines_of(text: str) -> list[str]:
    """The lines with single spaces: columns are as wide as the whole table needs."""
    return [line for line in (" ".join(line.split()) for line in text.splitlines()) if line]


DEMO = lines_of(README.partition("<!-- demo: begin -->")[2].partition("<!-- demo: end -->")[0])


def found(tmp_path: Path, levels: int) -> str:
    settings = [f"pruning.levels={levels}"]
    return str(lth.run("digits", range(5), store=tmp_path, settings=settings, device="cpu", progress=False))


@pytest.mark.skipif(instructions() != PINNED, reason="a processor without AVX2 has bits of its own")
def test_the_tables_first_levels_are_what_is_found_here(tmp_path: Path) -> None:
    """On any x86-64 processor with AVX2, to the last digit."""
    rows = lines_of(found(tmp_path, 1))
    start = next(at for at, line in enumerate(rows) if line.startswith("0 100%"))
    assert len(rows[start : start + 4]) == 4 and rows[start + 3].startswith("36,036 ")
    at = DEMO.index(rows[start])
    assert DEMO[at : at + 4] == rows[start : start + 4]


@pytest.mark.gates
@pytest.mark.skipif(instructions() != PINNED, reason="a processor without AVX2 has bits of its own")
def test_the_whole_table_is_what_is_found_here(tmp_path: Path) -> None:
    rows = lines_of(found(tmp_path, 12))
    table = rows[: next(at for at, line in enumerate(rows) if line.startswith("Test accuracy"))]
    table = table[next(at for at, line in enumerate(table) if line.startswith("0 100%")) :]
    assert len(table) == 26
    at = DEMO.index(table[0])
    assert DEMO[at : at + 26] == table
