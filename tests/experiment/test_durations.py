"""Durations: steps or epochs, never a bare number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from lth.experiment import Duration, to_steps
from lth.experiment.durations import comparable

DURATION = TypeAdapter(Duration)


@pytest.mark.parametrize(
    ("written", "read"),
    [("50000it", "50000it"), ("160ep", "160ep"), ("007it", "7it"), (" 5it ", "5it"), ("000ep", "0ep"), ("0it", "0it")],
)
def test_one_text_per_duration(written: str, read: str) -> None:
    assert DURATION.validate_python(written) == read


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "it",
        "5",
        5,
        5.0,
        None,
        "5 it",
        "-5it",
        "+5it",
        "1e3it",
        "2.5ep",
        "5IT",
        "5its",
        "5it\n5it",
        "1_000it",
        "٣it",
        "9" * 13 + "it",
        ["5it"],
    ],
)
def test_everything_else_is_refused_by_value(wrong: object) -> None:
    with pytest.raises(ValidationError) as caught:
        DURATION.validate_python(wrong)

    (error,) = caught.value.errors()
    assert repr(wrong) in error["msg"]
    assert "'50000it'" in error["msg"]
    assert "'160ep'" in error["msg"]


@given(st.integers(0, 10**11), st.sampled_from(["it", "ep"]), st.integers(0, 5))
def test_reading_what_was_read_changes_nothing(count: int, unit: str, zeros: int) -> None:
    zeros = min(zeros, 12 - len(str(count)))
    once = DURATION.validate_python("0" * zeros + f"{count}{unit}")

    assert once == f"{count}{unit}"
    assert DURATION.validate_python(once) == once


@pytest.mark.parametrize(
    ("duration", "per_epoch", "steps"), [("600it", 23, 600), ("3ep", 23, 69), ("0ep", 23, 0), ("160ep", 390, 62_400)]
)
def test_epochs_are_full_batches(duration: str, per_epoch: int, steps: int) -> None:
    assert to_steps(duration, per_epoch) == steps


@pytest.mark.parametrize(
    ("first", "second", "answer"),
    [("5it", "9it", True), ("5ep", "9ep", True), ("5it", "9ep", False), ("0it", "9ep", True), ("5ep", "0it", True)],
)
def test_what_can_be_compared_without_the_data(first: str, second: str, answer: bool) -> None:
    assert comparable(first, second) is answer
