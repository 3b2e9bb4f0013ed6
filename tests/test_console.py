"""What a store's names can do to a terminal: nothing."""

from __future__ import annotations

import io

import pytest
from rich.markup import escape
from rich.table import Table

from lth.console import Console, one_line, printable

HOSTILE = [
    "\x1b[2Jgone",
    "\x1b]0;title\x07",
    "\x1b]8;;http://elsewhere\x1b\\\\link",
    "a\rb",
    "a\x08b",
    "\x9b31mred",
    "\u202egnp.exe",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("terminal", [False, True])
def test_no_control_character_of_a_name_is_printed(name: str, terminal: bool) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, color_system=None)
    table = Table(name, caption=escape(name))
    table.add_row(escape(name))
    console.print(table)
    console.print(f"[bold]{escape(name)}[/]", soft_wrap=True)
    printed = file.getvalue()
    assert not any(character in printed for character in ("\x1b]", "\x1b[2J", "\r", "\x08", "\x07", "\x9b", "\u202e"))
    assert printable(name) == printable(printable(name)) != name


def test_what_is_ours_and_what_is_harmless_stays() -> None:
    file = io.StringIO()
    Console(file=file, force_terminal=True, width=100, color_system="standard", highlight=False).print(
        "[red]Größe ±1 ✗ 日本[/]"
    )
    assert "Größe ±1 ✗ 日本" in file.getvalue() and "\x1b[31m" in file.getvalue()


def test_a_name_stays_on_its_line() -> None:
    assert one_line("tic\x1b[31m\nket\t.parquet") == "tic\\x1b[31m\\nket\\t.parquet"
