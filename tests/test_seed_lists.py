"""Lists of seeds as people write them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lth import seeds as seed_lists
from lth.errors import InvalidExperiment
from lth.experiment import format_seeds, parse_seeds


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0-4", (0, 1, 2, 3, 4)),
        ("3", (3,)),
        ("3-3", (3,)),
        ("7, 3 ,10-12", (3, 7, 10, 11, 12)),
        ("007", (7,)),
        ("2147483647", (2**31 - 1,)),
    ],
)
def test_reading(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


def test_a_million_seeds_are_read() -> None:
    seeds = parse_seeds("0-999999")
    assert (len(seeds), seeds[0], seeds[-1]) == (1_000_000, 0, 999_999)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("-1", ["'-1'", "0-4", "none below 0"]),
        ("0,-1", ["'-1'", "0-4"]),
        ("3-1", ["'3-1'", "write 1-3"]),
        ("1,1", ["seed 1 appears twice", "'1,1'", "once"]),
        ("0-4,3", ["seed 3 appears twice", "'0-4,3'", "once"]),
        ("a", ["'a'", "0-4"]),
        ("", ["''", "0-4"]),
        ("1,", ["''", "0-4"]),
        ("1.5", ["'1.5'", "0-4"]),
        ("1-2-3", ["'1-2-3'", "0-4"]),
        ("0:4", ["'0:4'", "0-4"]),
        ("٣", ["'٣'", "0-4"]),
        ("1\n2", ["'1\\n2'", "0-4"]),
        ("2147483648", ["2147483648", "the largest is 2147483647"]),
        ("0-99999999999", ["'0-99999999999'", "0-4"]),
        ("0-99999999", ["'0-99999999'", "100,000,000", "at most 10,000,000"]),
    ],
)
def test_a_mistake_gets_one_line_with_the_value_and_the_remedy(text: str, wanted: list[str]) -> None:
    with pytest.raises(InvalidExperiment) as caught:
        parse_seeds(text)

    answer = str(caught.value)
    assert len(answer.splitlines()) == 1
    assert [part for part in wanted if part not in answer] == []


def test_the_limit_counts_all_entries_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seed_lists, "MOST_SEEDS", 10)

    assert len(parse_seeds("0-4,10-14")) == 10
    with pytest.raises(InvalidExperiment, match="11 seeds; at most 10 a sweep"):
        parse_seeds("0-4,10-15")


@pytest.mark.parametrize(
    ("seeds", "text"), [((0, 1, 2, 7), "0-2,7"), ((5,), "5"), ((9, 3, 4), "3-4,9"), ((0, 2, 4), "0,2,4"), ((), "")]
)
def test_writing(seeds: tuple[int, ...], text: str) -> None:
    assert format_seeds(seeds) == text


@given(st.sets(st.integers(0, 60), min_size=1) | st.sets(st.integers(0, 2**31 - 1), min_size=1))
def test_reading_and_writing_are_inverse(seeds: set[int]) -> None:
    text = format_seeds(tuple(seeds))

    assert parse_seeds(text) == tuple(sorted(seeds))
    assert format_seeds(parse_seeds(text)) == text
    # Shortest: two entries never touch, else they were one.
    entries = [
        tuple(map(int, (*entry.split("-"), entry)[:2])) if "-" in entry else (int(entry),) * 2
        for entry in text.split(",")
    ]
    assert all(later[0] > earlier[1] + 1 for earlier, later in pairwise(entries))
