"""Tables that analyses make of committed units: written once under the hash of their content, read together.

    layers/experiment=<id>/<16 hex>.parquet     overlap/…, connectivity/… likewise

They are no part of a unit's commit: whatever is lost or damaged here can be computed again from the units.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from lth.errors import DamagedObject, StoreError
from lth.store import parquet
from lth.store.content import content_hash
from lth.store.objects import Objects
from lth.store.reader import READERS
from lth.store.schemas import ANALYSIS_SCHEMAS, ROW_KEYS, conform
from lth.store.unit import folder


def put(objects: Objects, kind: str, experiment_id: str, table: pa.Table) -> str:
    """Writes rows of one of ANALYSIS_SCHEMAS; returns the object's key. The same rows make the same key.

    A damaged object in the way is put into quarantine. Raises StoreError for rows of another experiment.
    """
    table = conform(table, kind)
    if pc.unique(table["experiment_id"]).to_pylist() != [experiment_id]:
        raise StoreError(f"rows of {kind} must be of the experiment {experiment_id!r}, one at least")
    content = content_hash(table, ANALYSIS_SCHEMAS[kind].names)
    key = f"{folder(kind, experiment_id)}/{content[:16]}.parquet"
    data = parquet.encode(table, {"content_sha256": content})
    if not objects.create(key, data):
        existing = objects.read(key)
        try:
            if existing is not None:
                parquet.decode(existing, kind)
                return key
        except DamagedObject:
            objects.quarantine(key, existing)
        objects.create(key, data)
    return key


def read(objects: Objects, kind: str, experiment_id: str) -> tuple[pa.Table, dict[str, str]]:
    """All rows of an analysis, each key of ROW_KEYS once; and of the objects that are damaged: key -> what is wrong."""
    keys = sorted(objects.sizes(folder(kind, experiment_id)))
    tables, damaged = [ANALYSIS_SCHEMAS[kind].empty_table()], {}
    with ThreadPoolExecutor(READERS) as pool:
        for key, data in zip(keys, pool.map(objects.read, keys), strict=True):
            try:
                if data is not None:
                    table, _ = parquet.decode(data, kind)
                    parquet.check_experiment(table, experiment_id)
                    tables.append(table)
            except DamagedObject as error:
                damaged[key] = str(error)
    rows = pa.concat_tables(tables)
    places = list(zip(*(rows[name].to_pylist() for name in ROW_KEYS[kind]), strict=True))
    first = {place: row for row, place in reversed(list(enumerate(places)))}
    return rows.take(pa.array(sorted(first.values()), pa.int64())), damaged
