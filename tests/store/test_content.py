from __future__ import annotations

import hashlib
import math
import struct
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lth.errors import StoreError
from lth.store import LEVELS, MASKS, METRICS, RESULT_COLUMNS, Unit, conform, content_hash
from lth.store.schemas import SCHEMAS
from lth.store.score_columns import SCORES_OF

from .cohorts import EXPERIMENT, change, tables

COLUMNS = ("seed", "step", "split", "loss", "ok", "bits", "shape")
SCHEMA = pa.schema(
    [
        ("seed", pa.int64()),
        ("step", pa.int32()),
        ("split", pa.string()),
        ("loss", pa.float64()),
        ("ok", pa.bool_()),
        ("bits", pa.binary()),
        ("shape", pa.list_(pa.int32())),
    ]
)
row = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 3),
        "step": st.integers(0, 3),
        "split": st.sampled_from(["val", "test", "é"]),
        "loss": st.none() | st.floats(),
        "ok": st.none() | st.booleans(),
        "bits": st.none() | st.binary(max_size=4),
        "shape": st.none() | st.lists(st.integers(0, 9), max_size=3),
    }
)
rows = st.lists(row, min_size=1, max_size=8, unique_by=lambda found: (found["seed"], found["step"], found["split"]))


def table_of(content: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(content, schema=SCHEMA)


def same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return repr(one) == repr(other)  # 0.0 and -0.0 differ, NaN is NaN
    return one == other


@given(rows, st.data())
def test_hash_ignores_order_chunks_and_encoding(content: list[dict], data: st.DataObject) -> None:
    expected = content_hash(table_of(content), COLUMNS)
    shuffled = data.draw(st.permutations(content))
    cut = data.draw(st.integers(0, len(content)))
    chunked = pa.concat_tables([table_of(shuffled[:cut]), table_of(shuffled[cut:])])
    columns = data.draw(st.permutations(COLUMNS))
    assert content_hash(chunked.select(columns), columns) == expected
    encoded = chunked.set_column(2, "split", chunked["split"].dictionary_encode())
    assert content_hash(encoded, COLUMNS) == expected
    padded = table_of([content[0], *content, content[-1]]).slice(1, len(content))
    assert content_hash(padded, COLUMNS) == expected


@given(rows, st.data())
def test_hash_notices_any_single_value(content: list[dict], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(content) - 1))
    name = data.draw(st.sampled_from(COLUMNS))
    other = {**content[place], name: data.draw(row)[name]}
    changed = [*content[:place], other, *content[place + 1 :]]
    equal = content_hash(table_of(changed), COLUMNS) == content_hash(table_of(content), COLUMNS)
    assert equal == same(content[place][name], other[name])


def test_null_nan_zero_and_minus_zero_differ() -> None:
    hashes = {
        content_hash(pa.table({"seed": [0], "loss": pa.array([value], pa.float64())}), ["loss"])
        for value in (None, math.nan, 0.0, -0.0)
    }
    assert len(hashes) == 4
    other_nan = np.array([0x7FF8000000000001], dtype="u8").view("f8")  # differs in bits, not in meaning
    one, other = pa.table({"loss": [math.nan]}), pa.table({"loss": other_nan})
    assert content_hash(one, ["loss"]) == content_hash(other, ["loss"])


def test_types_and_names_and_text_boundaries_count() -> None:
    def hash_of(column: pa.Array, name: str = "a") -> str:
        return content_hash(pa.table({name: column}), [name])

    assert hash_of(pa.array([1], pa.int64())) != hash_of(pa.array([1], pa.int32()))
    assert hash_of(pa.array([1])) != hash_of(pa.array([1]), "b")
    assert hash_of(pa.array(["ab", "c"])) != hash_of(pa.array(["a", "bc"]))
    assert hash_of(pa.array([b"ab", b"c"])) != hash_of(pa.array([b"a", b"bc"]))
    assert hash_of(pa.array([[1, 2], [3]])) != hash_of(pa.array([[1], [2, 3]]))


def reference(content: list[dict], types: dict[str, str]) -> str:
    """The hash as content.py describes it, row by row, without Arrow and numpy."""
    order = [name for name in ("seed", "tensor", "split", "step") if name in content[0]]
    content = sorted(content, key=lambda found: [found[name] for name in order])
    parts = [f"lth content 1, {len(content)} rows".encode()]
    for name in sorted(types):
        values, kind = [found[name] for found in content], types[name]
        valid = sum(1 << index for index, value in enumerate(values) if value is not None)
        parts += [name.encode(), kind.encode(), valid.to_bytes(-(-len(values) // 8), "little")]
        if kind == "text":
            texts = sorted({value for value in values if value is not None}, key=str.encode)
            codes = [-1 if value is None else texts.index(value) for value in values]
            parts += [len(texts).to_bytes(8, "little"), *map(str.encode, texts), struct.pack(f"<{len(codes)}q", *codes)]
        elif kind == "bytes":
            parts += [value or b"" for value in values]
        elif kind == "list of int32":
            items = [item for value in values for item in value]
            parts += [
                struct.pack(f"<{len(values)}q", *map(len, values)),
                ((1 << len(items)) - 1).to_bytes(-(-len(items) // 8), "little"),
                struct.pack(f"<{len(items)}i", *items),
            ]
        else:
            letter = {"int32": "i", "int64": "q", "float64": "d"}[kind]
            parts.append(struct.pack(f"<{len(values)}{letter}", *(0 if value is None else value for value in values)))
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "little") + part for part in parts)).hexdigest()


@pytest.mark.parametrize("kind", ["levels", "metrics", "masks"])
def test_hash_agrees_with_a_reference_row_by_row(kind: str) -> None:
    # Stores hold these hashes. Whoever changes their input needs a new schema_version, not a new reference here.
    names = {
        pa.string(): "text",
        pa.binary(): "bytes",
        pa.list_(pa.int32()): "list of int32",
        pa.int32(): "int32",
        pa.int64(): "int64",
        pa.float64(): "float64",
    }
    table = tables(Unit("ticket", 0, 1, (3, 4, 11)))[list(SCHEMAS).index(kind)]
    if kind != "masks":
        table = change(change(table, table.column_names[-3 if kind == "levels" else -1], 1, None), "density", 0, -0.5)
    table = table.take([2, 0, 1, *range(3, table.num_rows)])
    columns = [name for name in table.column_names if table.schema.field(name).type in names]
    types = {name: names[table.schema.field(name).type] for name in columns}
    assert content_hash(table, columns) == reference(table.to_pylist(), types)


def test_a_million_rows_take_about_a_second() -> None:
    count = 1_000_000
    seeds = np.arange(count) % 777
    table = pa.table(
        {
            "experiment_id": pa.array([EXPERIMENT] * count),
            "seed": seeds,
            "step": np.arange(count) // 777,
            "split": pa.array(["val", "test"] * (count // 2)),
            "loss": seeds / 3,
            "accuracy": seeds / 777,
        }
    )
    start = time.perf_counter()
    content_hash(table, table.column_names)
    assert time.perf_counter() - start < 5  # 0.4 s on an idle core; a loop over rows would take longer than 5


def test_schemas_describe_every_column() -> None:
    for schema in SCHEMAS.values():
        assert schema.metadata == {b"schema_version": b"3"}
        assert all(field.metadata[b"description"] for field in schema)
    assert " ".join(LEVELS.names) == (
        "experiment_id arm seed draw level density weights_remaining weights_total parameters flops latency_seconds "
        "criterion dataset model steps early_stop_step train_accuracy train_loss val_accuracy_at_early_stop "
        "test_accuracy_at_early_stop val_accuracy test_accuracy test_loss score train_score val_score_at_early_stop "
        "test_score_at_early_stop val_score test_score status train_seconds examples_per_second "
        "device cohort_size threads precision mask_sha256 code_version instructions torch engine finished_at"
    )
    assert " ".join(METRICS.names) == (
        "experiment_id arm seed draw level density step split loss accuracy score score_value"
    )
    assert " ".join(MASKS.names) == "experiment_id arm seed draw level tensor shape remaining total bits sha256"
    assert set(LEVELS.names) - set(RESULT_COLUMNS) - {"score", *SCORES_OF} == {
        "train_seconds",
        "latency_seconds",
        "examples_per_second",
        "device",
        "cohort_size",
        "threads",
        "code_version",
        "instructions",
        "torch",
        "engine",
        "finished_at",
    }


def test_conform_puts_columns_in_order_and_names_what_is_wrong() -> None:
    levels = tables(Unit("ticket", 0, 0, (0,)))[0]
    assert conform(levels.select(list(reversed(LEVELS.names))), "levels").schema == LEVELS
    with pytest.raises(StoreError, match="'steps'"):
        conform(levels.drop_columns(["steps"]), "levels")
    with pytest.raises(StoreError, match="'colour'"):
        conform(levels.append_column("colour", pa.array(["red"])), "levels")
    with pytest.raises(StoreError, match="'status' is null in 1 rows"):
        conform(change(levels, "status", 0, None), "levels")
    position = LEVELS.get_field_index("level")
    with pytest.raises(StoreError, match="'level'"):
        conform(levels.set_column(position, "level", pa.array(["one"])), "levels")
