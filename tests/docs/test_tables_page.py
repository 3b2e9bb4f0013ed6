"""The page of the tables is true: its columns are the schemas', and every query on it runs and answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lth.results
from lth.data import load_dataset
from lth.experiment import load_experiment
from lth.results import Results, tables
from lth.store import Store
from lth.store.curated import compact
from lth.sweep.here import run_here
from lth.sweep.overlap import compare

PAGE = (Path(__file__).parents[2] / "docs" / "tables.md").read_text()
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Three seeds of `smoke`, two of them compacted, and the overlap of their masks."""
    store, experiment = Store(tmp_path_factory.mktemp("store")), load_experiment("smoke")
    run_here(experiment, (0, 1), store, load_dataset("digits"))
    compact(store)
    run_here(experiment, (0, 1, 2), store, load_dataset("digits"))
    store.put_analysis("overlap", experiment.id, compare(store, experiment.id, "seeds", None, None))
    return lth.results.open(store.url)


def test_every_column_is_described_as_the_schema_has_it() -> None:
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", PAGE, re.DOTALL | re.MULTILINE))
    assert list(sections) == list(tables())
    for name, schema in tables().items():
        rows = [
            f"| `{field.name}` | {field.type}{', may be null' if field.nullable else ''} | "
            f"{field.metadata[b'description'].decode().replace('|', chr(92) + '|')} |"
            for field in schema
        ]
        assert [line for line in sections[name].splitlines() if line.startswith("| `")] == rows


def test_there_are_ten_questions() -> None:
    assert len(QUERIES) == 10


@pytest.mark.parametrize("sql", QUERIES, ids=range(len(QUERIES)))
def test_every_query_answers(results: Results, sql: str) -> None:
    answer = results.query(sql)
    if "matches_down_to" not in sql:  # in a sweep this short nothing may match
        assert answer.num_rows
    assert all(column.null_count == 0 for column in answer.columns)


def test_answers_are_those_of_the_rows(results: Results) -> None:
    accuracy = {(row["level"], row["arm"]): row for row in results.query(QUERIES[0]).to_pylist()}
    rows = [row for row in results.levels.to_pylist() if (row["level"], row["arm"]) == (1, "reinit")]
    assert accuracy[1, "reinit"]["n"] == len(rows) == 3
    assert accuracy[1, "reinit"]["mean"] == pytest.approx(sum(row["test_accuracy_at_early_stop"] for row in rows) / 3)
    gains = results.query(QUERIES[2]).to_pylist()
    assert [row["seeds"] for row in gains] == [3, 3]
    # Seven trainings a seed: dense, and three arms at two levels.
    assert sum(results.query(QUERIES[7])["trainings"].to_pylist()) == 3 * 7
