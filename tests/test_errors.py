"""Errors of other libraries in our lines."""

from __future__ import annotations

import pytest

from lth.errors import in_one_line


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("no colour\nbut two lines", "ValueError: no colour"),
        ("\x1b[96mcyan\x1b[0m", "ValueError: cyan"),
        ("", "ValueError"),
    ],
)
def test_an_error_is_one_line_without_colours(text: str, wanted: str) -> None:
    assert in_one_line(ValueError(text)) == wanted
