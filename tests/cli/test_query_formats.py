"""The result of a query is the same in every format: names, values, order, and what a terminal shows of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import lth.results
from flows.cli.query import print_rows
from flows.cli.table_formats import encoded
from lth.console import one_line
from lth.query_types import distinct
from lth.results import InvalidQuery
from lth.store import Store

Opened = lth.results.Results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    store = Store(tmp_path_factory.mktemp("store"))
    store.check_writable()
    return lth.results.open(store.url)


def json_of(table: pa.Table) -> list[dict[str, Any]]:
    return list(json.loads(encoded(table, "json")))


def csv_of(table: pa.Table) -> list[list[str]]:
    return list(csv.reader(io.StringIO(encoded(table, "csv").decode(), newline="")))


def parquet_of(table: pa.Table) -> pa.Table:
    return pq.read_table(io.BytesIO(encoded(table, "parquet")))


VALUES = [  # SQL, JSON, CSV
    ("sum(x) FROM range(3) t(x)", 3, "3"),
    ("(2::HUGEINT) ** 0 * 9007199254740993::HUGEINT", None, None),
    ("9223372036854775808::HUGEINT", 2**63, str(2**63)),
    ("(-170141183460469231731687303715884105728)::HUGEINT", -(2**127), str(-(2**127))),
    ("340282366920938463463374607431768211455::UHUGEINT", 2**128 - 1, str(2**128 - 1)),
    ("18446744073709551615::UBIGINT", 2**64 - 1, str(2**64 - 1)),
    ("repeat('9', 60)::BIGNUM", "9" * 60, "9" * 60),
    ("1.10::DECIMAL(5, 2)", 1.1, "1.10"),
    (
        "12345678901234567890.123456789::DECIMAL(38, 9)",
        12345678901234567890.123456789,
        "12345678901234567890.123456789",
    ),
    ("'a'::ENUM('a', 'BIT')", "a", "a"),
    ("INTERVAL 1 MONTH + INTERVAL 3 SECOND", "1 month 00:00:03", "1 month 00:00:03"),
    ("[INTERVAL 1 DAY]", ["1 day"], '["1 day"]'),
    ("[1, NULL, 3]", [1, None, 3], "[1, null, 3]"),
    ("[1, 2]::INT[2]", [1, 2], "[1, 2]"),
    ("[[1], []]", [[1], []], "[[1], []]"),
    (
        "{'a': 1, 'b': [NULL], 'INTERVAL': 2}",
        {"a": 1, "b": [None], "INTERVAL": 2},
        '{"a": 1, "b": [null], "INTERVAL": 2}',
    ),
    ("MAP {'a': 1, 'b': NULL}", {"a": 1, "b": None}, '{"a": 1, "b": null}'),
    ("MAP {1: 'x'}", [[1, "x"]], '[[1, "x"]]'),
    ("union_value(k := 1)", "1", "1"),
    ("'\\x00\\xFFab'::BLOB", "00ff6162", "00ff6162"),
    ("'101'::BIT", "101", "101"),
    ("true", True, "true"),
    ("NULL", None, ""),
    ("''", "", ""),
    ("DATE '0001-01-01'", "0001-01-01", "0001-01-01"),
    ("DATE 'infinity'", "infinity", "infinity"),
    ("TIMESTAMP '20000-01-01 00:00:00'", "20000-01-01 00:00:00", "20000-01-01 00:00:00"),
    ("TIME '01:02:03'", "01:02:03", "01:02:03"),
    ("TIMETZ '01:02:03+02'", "01:02:03+02", "01:02:03+02"),
    ("TIMESTAMP '2020-01-01 01:02:03.5'", "2020-01-01T01:02:03.500000", "2020-01-01T01:02:03.500000"),
    ("TIMESTAMPTZ '2020-01-01 01:02:03+02'", "2019-12-31T23:02:03+00:00", "2019-12-31T23:02:03+00:00"),
    ("TIMESTAMP_NS '2020-01-01 01:02:03.123456789'", "2020-01-01T01:02:03.123456789", "2020-01-01T01:02:03.123456789"),
    ("'nan'::DOUBLE", None, "nan"),
    ("'-inf'::FLOAT", None, "-inf"),
    ("1e-7::DOUBLE", 1e-7, "1e-07"),
    ("0.1::DOUBLE + 0.2::DOUBLE", 0.1 + 0.2, "0.30000000000000004"),
    ("'{\"a\": 1}'::JSON", '{"a": 1}', '{"a": 1}'),
    ("UUID '00000000-0000-0000-0000-000000000001'", "00000000-0000-0000-0000-000000000001", None),
    ("'a\nb\u2028\"c,é☃'", 'a\nb\u2028"c,é☃', 'a\nb\u2028"c,é☃'),
]


@pytest.mark.parametrize(("sql", "in_json", "in_csv"), VALUES, ids=[sql[:40] for sql, *_ in VALUES])
def test_every_type_survives_every_format(results: Opened, sql: str, in_json: Any, in_csv: str | None) -> None:
    head, source, tail = sql.partition(" FROM ")
    table = results.query(f"SELECT 1 AS first, {head} AS value, 'z' AS last{source}{tail}")
    row = json_of(table)[0]
    assert list(row) == ["first", "value", "last"]
    if in_csv is not None or in_json is not None:
        assert row == {"first": 1, "value": in_json, "last": "z"} and type(row["value"]) is type(in_json)
    if in_csv is not None:
        assert csv_of(table) == [["first", "value", "last"], ["1", in_csv, "z"]]
    assert parquet_of(table).rename_columns(table.column_names).to_pylist().__repr__() == table.to_pylist().__repr__()


def test_null_and_an_empty_text_differ_in_csv(results: Opened) -> None:
    assert encoded(results.query("SELECT NULL AS a, '' AS b"), "csv") == b'"a","b"\n,""\n'


def test_no_rows(results: Opened) -> None:
    table = results.query("SELECT 1 AS n, INTERVAL 1 DAY AS i, 1::HUGEINT AS h WHERE false")
    assert json_of(table) == [] and csv_of(table) == [["n", "i", "h"]]
    assert parquet_of(table).num_rows == 0 and parquet_of(table).column_names == ["n", "i", "h"]


NAMES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=5),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60)
@given(NAMES, st.booleans())
def test_any_names_survive_every_format(results: Opened, names: list[str], odd: bool) -> None:
    names = names + names[:1]  # one of them twice
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    values = [f"{place}::UHUGEINT" if odd else str(place) for place in range(len(names))]
    table = results.query(
        "SELECT " + ", ".join(f"{value} AS {name}" for value, name in zip(values, quoted, strict=True))
    )
    wanted = dict(zip(distinct(names), range(len(names)), strict=True))
    assert json_of(table) == [wanted] and list(json_of(table)[0]) == list(wanted)
    assert csv_of(table) == [list(wanted), [str(value) for value in wanted.values()]]
    assert parquet_of(table).to_pylist() == [wanted]


def test_the_second_of_two_equal_names_gets_a_number(results: Opened) -> None:
    assert json_of(results.query("SELECT 1 AS n, 2 AS n")) == [{"n": 1, "n_1": 2}]
    assert distinct(["n", "n_1", "n", "n"]) == ["n", "n_1", "n_2", "n_3"]


def printed(table: pa.Table, width: int = 80) -> str:
    text = io.StringIO()
    print_rows(table, Console(file=text, width=width))
    return text.getvalue()


def test_a_wide_result_is_a_block_for_each_row(results: Opened) -> None:
    wide = results.query("SELECT " + ", ".join(f"{each} AS column_{each}" for each in range(30)) + " FROM range(2)")
    lines = printed(wide).splitlines()
    assert lines[0].startswith("─ row 1 ─") and lines[1] == "column_0  0" and lines[31].startswith("─ row 2")
    assert "2 rows of 30 columns" in lines[-1] and max(map(len, lines)) <= 80
    narrow = printed(results.query("SELECT 1 AS a, 'some words that are folded, as there is room for the names' AS b"))
    assert "┃ a ┃" in narrow and "row 1" not in narrow
    assert printed(wide.slice(0, 0)).startswith("column_0, column_1, ") and "0 rows of 30" in printed(wide.slice(0, 0))


def test_nothing_that_a_terminal_would_obey_is_printed(results: Opened) -> None:
    for text in (
        printed(results.query("SELECT '\x1b[31mred\x07' AS \"a\x1b]0;x\", '\u202eback' AS b")),
        one_line("\x9b\r\n"),
    ):
        assert not set(text.replace("\n", "")) & set("\x1b\x07\x9b\r\u202e")
    assert one_line("a\nb\tc\x1bé") == "a\\nb\\tc\\x1bé"


@pytest.fixture
def names(results: Opened) -> Iterator[list[str]]:
    yield results.query("SHOW TABLES")["name"].to_pylist()


def test_what_tables_there_are_and_what_they_hold_can_be_asked(results: Opened, names: list[str]) -> None:
    assert names == sorted(lth.results.TABLES)
    columns = results.query("DESCRIBE levels")["column_name"].to_pylist()
    assert columns == lth.results.tables()["levels"].names
    assert results.query("SELECT count(*) AS n FROM information_schema.tables").to_pylist() == [{"n": len(names)}]
    assert results.query("SUMMARIZE levels").num_rows == len(columns)


@pytest.mark.parametrize(
    ("sql", "first", "second"),
    [
        ("SELECT accuracy_ FROM levels", "accuracy_", "did you mean 'val_accuracy'?"),
        ("SELECT levels.sed FROM levels", "sed", "did you mean 'seed'?"),
        ("SELECT * FROM level", "level does not exist", "did you mean 'levels'? the tables are levels, metrics"),
        ("SELECT * FROM nonsense", "nonsense does not exist", "the tables are levels"),
        ("SELEC 1", 'syntax error at or near "SELEC"', ""),
        ("SELECT cuont(1)", "cuont does not exist", 'Did you mean "count"?'),
        ("SELECT avg('x')", "no function matches|choose a best candidate", ""),
        ("SELECT error('a\nb\nc\nd')", "a", ""),
    ],
)
def test_an_error_is_two_lines_at_most(results: Opened, sql: str, first: str, second: str) -> None:
    with pytest.raises(InvalidQuery) as caught:
        results.query(sql)
    lines = [*str(caught.value).splitlines(), ""]
    assert any(part in lines[0] for part in first.split("|")) and len(lines) <= 3 and second in lines[1]
