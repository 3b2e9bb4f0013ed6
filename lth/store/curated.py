"""Curated tables: what units have landed, gathered into Delta Lake tables under `curated/`.

Every publication is a batch. Its metrics and masks are written first, its `levels` rows last, in one Delta commit: that
commit publishes the batch, and rows of a batch that `levels` does not know do not count. So a publication can be
killed at any moment: what it left behind is not read, and the next one publishes those units again.
"""

from __future__ import annotations

import datetime
import os
import uuid
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from lth.errors import StoreError
from lth.store.reading import Committed
from lth.store.schemas import UNIT_SCHEMAS

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from lth.store.store import Store

UNITS_AT_ONCE = 500
"""Units of a batch: they bound the memory, and the number of files grows with landed rows, not with landed objects."""
_ORPHANED_AFTER = datetime.timedelta(days=1)


def compact(store: Store, units_at_once: int = UNITS_AT_ONCE) -> dict[str, int]:
    """Publish every committed training that is not yet curated; rows added by table.

    One writer at a time: of two that run at once, one fails with StoreError and publishes nothing twice. Damaged units
    are passed over.
    """
    added = dict.fromkeys(UNIT_SCHEMAS, 0)
    _forget_orphans(store)
    for experiment_id in store.experiments():
        found = store.committed(experiment_id)
        while True:
            marks = _open(store, "levels")  # what is new, and what Delta holds our commit against, are of one version
            part = _next(found, _published(marks, experiment_id), units_at_once)
            if not part.where:
                break
            for kind, count in _publish(store, part, marks).items():
                added[kind] += count
    return added


def read_curated(store: Store, kind: str) -> pa.Table | None:
    """The published rows of `levels`, `metrics` or `masks`, in the columns of its schema; None if there are none."""
    table, marks = _open(store, kind), _open(store, "levels")
    if table is None or marks is None:
        return None
    dataset, known = table.to_pyarrow_dataset(), _batches_of(marks)
    rows = dataset.to_table(filter=pc.is_in(pc.field("batch"), pa.array(known, pa.string())))
    schema = UNIT_SCHEMAS[kind]
    return rows.select(schema.names).cast(schema)


def _next(found: Committed, published: set[tuple[object, ...]], units_at_once: int) -> Committed:
    """The next batch: so many units that hold something new, and of them only what is new."""
    new = {place: unit for place, unit in found.where.items() if place not in published}
    chosen = set(sorted(set(new.values()))[:units_at_once])
    where = {place: unit for place, unit in new.items() if unit in chosen}
    columns = (found.rows[name].to_pylist() for name in ("arm", "draw", "level", "seed"))
    rows = found.rows.filter(pa.array([place in where for place in zip(*columns, strict=True)], pa.bool_()))
    return Committed(rows, where, {}, {unit: found.units[unit] for unit in chosen})


def _publish(store: Store, part: Committed, marks: DeltaTable | None) -> dict[str, int]:
    from deltalake import CommitProperties, Transaction, write_deltalake
    from deltalake.exceptions import DeltaError

    tables = {}
    for kind in ("metrics", "masks"):
        tables[kind], damaged = store.read_table(part, kind)
        if damaged:
            raise StoreError(f"{store.url}: {next(iter(damaged))} is damaged; run the sweep again, which sets it aside "
                             "and does its unit anew, then compact")
    tables["levels"] = part.rows
    version = (marks.transaction_version("lth-compact") or 0) if marks else 0
    batch = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    try:
        for kind in ("metrics", "masks", "levels"):  # levels last: its commit publishes the batch
            rows = tables[kind].append_column("batch", pa.array([batch] * tables[kind].num_rows, pa.string()))
            if kind != "levels":
                write_deltalake(_url(store, kind), rows, mode="append", partition_by=["experiment_id"],
                                storage_options=_options(store))
                continue
            # Of two writers that have read the same version, Delta refuses the second; the first creates the table.
            mark = CommitProperties(app_transactions=[Transaction("lth-compact", version + 1)])
            write_deltalake(marks or _url(store, kind), rows, mode="append" if marks else "error",
                            partition_by=["experiment_id"], commit_properties=mark,
                            storage_options=None if marks else _options(store))
    except DeltaError as error:
        raise StoreError(f"{store.url}: the curated tables could not be written ({str(error).splitlines()[0]}); if "
                         "another compaction is running let it finish, then run this one again") from None
    return {kind: table.num_rows for kind, table in tables.items()}


def _published(marks: DeltaTable | None, experiment_id: str) -> set[tuple[object, ...]]:
    """(arm, draw, level, seed) of the experiment that are in the curated tables."""
    if marks is None:
        return set()
    rows = marks.to_pyarrow_dataset().to_table(
        ["arm", "draw", "level", "seed"], filter=pc.field("experiment_id") == experiment_id)
    return set(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def _forget_orphans(store: Store) -> None:
    """Remove rows of batches that were begun more than a day ago and never published."""
    marks = _open(store, "levels")
    known = _batches_of(marks) if marks is not None else []
    limit = f"{datetime.datetime.now(datetime.UTC) - _ORPHANED_AFTER:%Y%m%dT%H%M%S}"
    for kind in ("metrics", "masks"):
        table = _open(store, kind)
        for batch in _batches_of(table) if table is not None else ():
            if table is not None and batch not in known and batch < limit:
                table.delete(f"batch = '{batch}'")


def _batches_of(table: DeltaTable) -> list[str]:
    found: set[str] = set()
    for rows in table.to_pyarrow_dataset().scanner(columns=["batch"]).to_batches():
        found.update(pc.unique(rows["batch"]).to_pylist())
    return sorted(found)


def _open(store: Store, kind: str) -> DeltaTable | None:
    from deltalake import DeltaTable

    if not DeltaTable.is_deltatable(_url(store, kind), _options(store)):
        return None
    return DeltaTable(_url(store, kind), storage_options=_options(store))


def _url(store: Store, kind: str) -> str:
    return f"{store.url}/curated/{kind}"


def _options(store: Store) -> dict[str, str] | None:
    """What delta-rs wants to be told of the S3 server that fsspec and boto find by themselves."""
    if not store.url.startswith("s3://"):
        return None
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    options = {"aws_conditional_put": "etag", "aws_region": os.environ.get("AWS_REGION") or os.environ.get(
        "AWS_DEFAULT_REGION") or "us-east-1"}
    if endpoint:
        options |= {"aws_endpoint": endpoint, "aws_allow_http": str(endpoint.startswith("http://")).lower()}
    return options
