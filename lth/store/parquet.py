"""Tables as the bytes of a Parquet object: zstd, checksums on every page, and reading that trusts nothing."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from lth.errors import DamagedObject
from lth.store.schemas import SCHEMA_VERSION, SCHEMAS


def encode(table: pa.Table, metadata: Mapping[str, str]) -> bytes:
    """The Parquet object of a conforming table; `metadata` is added to the schema's own."""
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]  # packed bits gain nothing by one
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"schema_version": SCHEMA_VERSION, **metadata}), sink,
                   compression="zstd", use_dictionary=texts, write_page_checksum=True)
    return sink.getvalue()


def decode(data: bytes, kind: str) -> tuple[pa.Table, dict[str, str]]:
    """The table and its metadata. DamagedObject (its text is only the reason) unless every page matches its checksum
    and the columns are those of SCHEMAS[kind]."""
    if not data:
        raise DamagedObject("it is empty")
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        table = file.read(use_threads=False)
        metadata = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
    except Exception as error:  # whatever a decoder says of these bytes, they are not what was written
        lines = str(error).strip().splitlines() or [""]
        raise DamagedObject(f"it is no readable Parquet ({type(error).__name__}: {lines[0][:160]})") from error
    if metadata.get("schema_version") != SCHEMA_VERSION:
        raise DamagedObject(f"its schema_version is {metadata.get('schema_version')!r}, this program reads "
                            f"{SCHEMA_VERSION!r}")
    if not table.schema.equals(SCHEMAS[kind]):
        raise DamagedObject(f"its columns are not those of {kind}")
    return table, metadata
