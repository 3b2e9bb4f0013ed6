"""Printing for a terminal, which obeys control characters: names may come from a store that others write to."""

from __future__ import annotations

import unicodedata
from typing import Any

import rich.console
from rich.console import ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.control import Control
from rich.segment import Segment

TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that change the direction of writing, with which a name can look like another."""


def printable(text: str) -> str:
    """The text with control characters, and those that change the direction of writing, as escapes: `\\x1b`."""
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if character in TURNING or (unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t")
        else character
        for character in text
    )


def one_line(text: str) -> str:
    """Of a name or value that another has given, what can stand within a line: line breaks and invisible characters as
    escapes, too."""
    return "".join(
        each.encode("unicode_escape").decode() if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp") else each
        for each in text
    )


class Console(rich.console.Console):
    """A console that prints no control characters but its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.push_render_hook(_Printable())


class _Printable(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [each if isinstance(each, Control) else _Clean(each) for each in renderables]


class _Clean:
    """What something renders as, its texts without control characters."""

    def __init__(self, renderable: ConsoleRenderable) -> None:
        self.renderable = renderable

    def __rich_console__(self, console: rich.console.Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
