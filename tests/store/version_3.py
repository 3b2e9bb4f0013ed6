"""Objects as they were written before there were other scores than accuracy: the encoder of then, byte for byte.

Copied, not imported: what is in stores does not change with the program.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

TYPES = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "timestamp[us, tz=UTC]": pa.timestamp("us", tz="UTC"),
}
COLUMNS = json.loads(Path(__file__).with_name("version_3_columns.json").read_text())
"""Name, type, whether it may be null, description."""
SCHEMAS = {
    kind: pa.schema(
        [pa.field(name, TYPES[of], nullable, {"description": about}) for name, of, nullable, about in columns],
        metadata={"schema_version": "3"},
    )
    for kind, columns in COLUMNS.items()
}


def encode(kind: str, table: pa.Table, metadata: dict[str, str]) -> bytes:
    """The bytes of an object of `levels` or `metrics`; of `table` only the columns that there were are written."""
    table = pa.Table.from_arrays([table[name] for name in SCHEMAS[kind].names], schema=SCHEMAS[kind])
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    sink = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata({"schema_version": "3", **metadata, "file_sha256": "0" * 64}),
        sink,
        compression="zstd",
        use_dictionary=texts,
        write_page_checksum=True,
    )
    data = bytearray(sink.getvalue())
    place = data.rindex(b"0" * 64)
    data[place : place + 64] = hashlib.sha256(data).hexdigest().encode()
    return bytes(data)
