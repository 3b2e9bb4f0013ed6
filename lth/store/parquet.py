"""Tables as the bytes of a Parquet object: zstd, a checksum on every page and one of the whole, reading that trusts
nothing."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lth.errors import DamagedObject
from lth.store.checksum import BLANK, checksum_is_right, put_checksum
from lth.store.columns import (
    MASKS_VERSION,
    SCHEMA_VERSION,
    SCORED_VERSION,
    TRACED_SCORED_VERSION,
    TRACED_VERSION,
)
from lth.store.mask_bits import stored_masks, with_bits_of_version_3, with_gaps, without_gaps
from lth.store.origin_columns import tells_origin, with_origin, without_origin
from lth.store.schemas import ROW_KEYS, SCHEMAS
from lth.store.score_columns import as_stored, is_scored, stored_schema, with_scores

CHECKSUM = "file_sha256"


def encode(table: pa.Table, metadata: Mapping[str, str]) -> bytes:
    """The Parquet object of a conforming table, with `metadata`, the schema's version and the checksum."""
    holds_masks = "bits" in table.column_names
    if holds_masks:
        version = MASKS_VERSION
    elif tells_origin(table):
        version = TRACED_SCORED_VERSION if is_scored(table) else TRACED_VERSION
    else:
        version = SCORED_VERSION if is_scored(table) else SCHEMA_VERSION
    table = as_stored(table)
    texts = [field.name for field in table.schema if pa.types.is_string(field.type) and field.name != "sha256"]
    metadata = {"schema_version": version, **metadata, CHECKSUM: BLANK}
    options: dict[str, Any] = {"compression": "zstd", "use_dictionary": texts, "write_page_checksum": True}
    sink = io.BytesIO()
    if holds_masks:
        # Without the columns' descriptions, and the least and largest bits: a few seeds' bits are no larger.
        table = with_gaps(table)
        options |= {"store_schema": False, "write_statistics": list(ROW_KEYS["masks"])}
        with pq.ParquetWriter(sink, table.schema, **options) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata(metadata)
    else:
        pq.write_table(table.replace_schema_metadata(metadata), sink, **options)
    data = sink.getvalue()
    return put_checksum(data, data.rindex(BLANK.encode()))  # the last: the metadata stand behind the rows


def decode(data: bytes, kind: str) -> tuple[pa.Table, dict[str, str]]:
    """The table, with the schema SCHEMAS[kind], and the object's metadata.

    Scores that are accuracies have no columns in the object; they are filled in. DamagedObject (its text is only the
    reason) unless the checksum is right and the version and columns are those expected.
    """
    if not data:
        raise DamagedObject("it is empty")
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        metadata = {name.decode(): value.decode() for name, value in (file.metadata.metadata or {}).items()}
        checksum = metadata.get(CHECKSUM, "")
        table = (
            file.read(use_threads=False) if checksum_is_right(data, checksum, data.rfind(checksum.encode())) else None
        )
    except Exception as error:  # whatever a decoder says of these bytes, they are not what was written
        lines = str(error).strip().splitlines() or [""]
        raise DamagedObject(f"it is no readable Parquet ({type(error).__name__}: {lines[0][:160]})") from error
    if table is None:
        raise DamagedObject("its bytes do not match the SHA-256 in its metadata")
    version = metadata.get("schema_version")
    schema = stored_schema(SCHEMAS[kind], scored=version in (SCORED_VERSION, TRACED_SCORED_VERSION))
    traced = kind == "levels" and version in (TRACED_VERSION, TRACED_SCORED_VERSION)
    if not traced:
        schema = without_origin(schema)
    if version == "1":  # before `levels` had parameters, flops and latency
        table = _with_new_columns(table, schema)
    elif kind == "masks" and version == MASKS_VERSION:
        schema = stored_masks(schema)
    elif not traced and version not in ("2", SCHEMA_VERSION, SCORED_VERSION):  # 2: before mask bits were encoded
        newest = MASKS_VERSION if kind == "masks" else TRACED_SCORED_VERSION
        raise DamagedObject(f"its schema_version is {version!r}, this program reads {newest!r} and before")
    if not table.schema.equals(schema):
        raise DamagedObject(f"its columns are not those of {kind}")
    if kind == "masks" and version in (SCHEMA_VERSION, MASKS_VERSION):
        try:
            table = without_gaps(table) if version == MASKS_VERSION else with_bits_of_version_3(table)
        except ValueError as error:
            raise DamagedObject(str(error)) from error
    table = with_scores(table)
    if kind == "levels":
        table = with_origin(table)
    return pa.Table.from_arrays([table[name] for name in SCHEMAS[kind].names], schema=SCHEMAS[kind]), metadata


def _with_new_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows of an earlier version, null in the columns that it did not have."""
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def check_experiment(table: pa.Table, experiment_id: str) -> None:
    """DamagedObject (its text is only the reason) if a row is another experiment's."""
    if set(table["experiment_id"].to_pylist()) - {experiment_id}:
        raise DamagedObject("its rows belong to another experiment")
