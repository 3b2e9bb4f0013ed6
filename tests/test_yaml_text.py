"""YAML 1.2's core schema: what plain words are, what is refused, what comes back from what is written."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lth import yaml_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E+5", 1e5),
        ("-.5e3", -500.0),
        ("1.", 1.0),
        ("+12", 12),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("-0x1f", "-0x1f"),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("190:20:30", "190:20:30"),
        ("2020-01-02", "2020-01-02"),
        ("2020-13-45", "2020-13-45"),
        ("0.1.2", "0.1.2"),
        ("=", "="),
        *((word, word) for word in ("yes", "no", "on", "off", "y", "N", "Yes", "NO", "TrUe", "nUll")),
        ("True", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("'1e-5'", "1e-5"),
        ("!!str 1e-5", "1e-5"),
        ("!!float 3", 3.0),
        ("\ufeffa: 1\r\nb: [x]\r\n", {"a": 1, "b": ["x"]}),
        ("a: &t {x: 1, y: 2}\nb: {<<: *t, y: 3}", {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}),
        ("b: {y: 3, <<: [{y: 1, x: 1}, {x: 2, z: 2}]}", {"b": {"x": 1, "y": 3, "z": 2}}),
        ("'<<': 1", {"<<": 1}),
    ],
)
def test_the_core_schema(text: str, value: Any) -> None:
    found = yaml_text.load(text)
    assert found == value and type(found) is type(value)


def bomb(link: str) -> str:
    lines = ["a: &a {x: 1}"]
    for name, other in zip("bcdefghijk", "abcdefghij", strict=True):
        lines.append(f"{name}: &{name} {link.format(','.join([f'*{other}'] * 9))}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (bomb("[{}]"), "aliases make more than 100,000 values"),
        (bomb("{{<<: [{}]}}"), "aliases make more than 100,000 values"),
        ("a: &a [*a]", "an alias stands within what it names"),
        ("[" * 60 + "]" * 60, "nested too deeply"),
        ("[" * 5000, "nested too deeply"),
        ("a: [x, " + "x, " * 400_000 + "]", "at most 1,000,000 are read"),
        ("9" * 5000, "a number of 5,000 characters"),
        ("1e400", "larger than any float"),
        ("{a: 1, a: 2}", "'a' appears twice"),
        ("{1: 1, 1: 2}", "1 appears twice"),
        ("{<<: {a: 1}, <<: {b: 1}}", "appears twice"),
        ("{<<: 3}", "expected a mapping"),
        ("{[1]: 2}", "unhashable"),
        ("a: 1\n\tb: 2", "found character"),
        ("a: 1\n---\nb: 2", "another document"),
        ("!!bool yes", "'yes' is no bool"),
        ("!!int 1_0", "'1_0' is no int"),
        ("!!int [1]", "of a single value"),
        ("!!map [1]", "of a mapping"),
        *((f"!!{tag} x", f"!!{tag} is none of plain data") for tag in ("binary", "timestamp", "set", "omap", "pairs")),
        ("!!python/name:os.system", "Python object"),
        ("!mine 3", "!mine is none of plain data"),
        ("*x", "undefined alias"),
    ],
)
def test_what_is_refused_quickly(text: str, problem: str) -> None:
    begun = time.process_time()
    with pytest.raises(yaml.YAMLError) as caught:
        yaml_text.load(text)
    assert problem in str(caught.value) and time.process_time() - begun < 10


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.sampled_from(["1e-5", "0o17", "08", "1_000", "yes", "1:30", "<<", "~", "", ".5", "=", "0x1", "2020-01-02"]),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=6), parts, max_size=3),
    max_leaves=6,
)


@given(PLAIN)
def test_what_is_written_comes_back_in_either_version_of_yaml(value: Any) -> None:
    text = yaml_text.dump({"value": value})
    assert yaml_text.load(text) == yaml.safe_load(text) == {"value": value}
