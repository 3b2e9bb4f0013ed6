"""Curated tables: what units have landed, gathered into Delta Lake tables under `curated/`.

Every publication is a batch. Its metrics and masks are written first, its `levels` rows last, in one Delta commit: that
commit publishes the batch, and rows of a batch that `levels` does not know do not count. So a publication can be
killed at any moment: what it left behind is not read, and the next one publishes those units again.
"""

from __future__ import annotations

import datetime
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.dataset import Dataset, FileSystemDataset
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from lth.errors import StoreError
from lth.store.content import content_hash
from lth.store.location import redact
from lth.store.reader import Committed, Place
from lth.store.remote_files import CONNECT_TIMEOUT, READ_TIMEOUT
from lth.store.schemas import ROW_KEYS, UNIT_SCHEMAS, result_columns
from lth.store.score_columns import as_stored, with_scores
from lth.store.store import Store
from lth.store.unit import folder, unit_name_of

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyarrow.fs import S3FileSystem

UNITS_AT_ONCE = 500
"""Units of a batch: they bound the memory, and the number of files grows with landed rows, not with landed objects."""
_ABANDONED_AFTER = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Compacted:
    """What a compaction did: rows added by table, and what was found damaged: key -> what is wrong."""

    added: Mapping[str, int]
    damaged: Mapping[str, str]


def compact(store: Store, units_at_once: int = UNITS_AT_ONCE) -> Compacted:
    """Publish every committed training that is not yet curated.

    A unit with damaged metrics or masks is set aside, so that its sweep does it anew; what was published of a unit that
    has been set aside since is withdrawn. One writer at a time: of two that
    run at once, one fails with StoreError and publishes nothing twice. Raises StoreError if the store cannot be used.
    """
    if "%" in store.url:  # delta-rs 1.6 decodes it twice, and would write beside the store
        raise StoreError(f"{store.url}: curated tables cannot lie in a folder with '%' in its name; rename it")
    added, damaged = dict.fromkeys(UNIT_SCHEMAS, 0), {}
    experiments = store.experiments()  # first: the store says in one line if it cannot be reached
    with _delta_errors(store):
        _delete_unpublished(store)
        for experiment_id in experiments:
            _withdraw(store, experiment_id)
            committed = store.committed(experiment_id, Curated(store).units(experiment_id))
            while True:
                # What is new, and what Delta holds our commit against: one version.
                marks = delta_table(store, "levels")
                part = _unpublished(committed, _published(store, marks, experiment_id), units_at_once)
                if not part.where:
                    break
                tables, broken = _tables(store, part)
                if broken:
                    damaged.update(broken)
                    for unit in {unit_name_of(key) for key in broken}:
                        store.quarantine_unit(experiment_id, unit)
                    committed = store.committed(experiment_id, Curated(store).units(experiment_id))
                    continue
                publish(store, tables, part.where, marks)
                for kind, table in tables.items():
                    added[kind] += table.num_rows
    return Compacted(added, damaged)


class Curated:
    """The published rows, as they are at the moment at which this is made. Nothing is read before it is asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        with _delta_errors(store):
            marks = delta_table(store, "levels")  # first: batches that are published later are not known to it
        self._marks = None if marks is None or _is_empty(marks) else marks
        self._datasets: dict[str, Dataset] = {}

    def units(self, experiment_id: str) -> set[str]:
        """The units whose rows are published."""
        if self._marks is None or "unit" not in self.dataset("levels").schema.names:
            return set()
        with _delta_errors(self._store):
            named = self.dataset("levels").to_table(
                ["unit"], filter=pc.field("experiment_id") == experiment_id, use_threads=False
            )
        return set(pc.unique(named["unit"]).to_pylist())

    def dataset(self, kind: str) -> Dataset:
        """The published rows of `levels`, `metrics` or `masks`, to be scanned; `empty` must be False."""
        if kind not in self._datasets:
            with _delta_errors(self._store):
                self._datasets[kind] = self._opened(kind)
        return self._datasets[kind]

    def landed(self, experiment_id: str) -> Committed:
        """What is committed of an experiment and not published: reads the `levels` objects of those units only."""
        committed = self._store.committed(experiment_id, self.units(experiment_id))
        with _delta_errors(self._store):
            published = _published(self._store, self._marks, experiment_id) if committed.where else set()
        part = _unpublished(committed, published)
        return Committed(part.rows, part.where, committed.damaged, part.units)

    @property
    def empty(self) -> bool:
        """Whether nothing is published yet."""
        return self._marks is None

    def read(self, kind: str, experiments: Sequence[str] | None = None) -> pa.Table:
        """The rows of some experiments, or of all, in the columns of the table's schema; those that are younger than a
        row are null in it."""
        schema = UNIT_SCHEMAS[kind]
        if self.empty:
            return schema.empty_table()
        dataset = self.dataset(kind)
        chosen = None if experiments is None else pc.field("experiment_id").isin(list(experiments))
        with _delta_errors(self._store):
            rows = dataset.to_table([name for name in schema.names if name in dataset.schema.names], filter=chosen)
        rows = with_scores(rows)
        columns = [
            rows[field.name].cast(field.type)
            if field.name in rows.column_names
            else pa.nulls(rows.num_rows, field.type)
            for field in schema
        ]
        return pa.Table.from_arrays(columns, schema=schema)

    def _opened(self, kind: str) -> Dataset:
        if kind == "levels":
            assert self._marks is not None
            return _dataset(self._store, self._marks, "levels")
        table = delta_table(self._store, kind)
        if table is None:  # whatever publishes rows of levels has written these before
            raise StoreError(
                f"{self._store.url}: the curated table {kind!r} is missing, though levels has rows of it; "
                "remove curated/ and run `lth compact` again"
            )
        whole = _dataset(self._store, table, kind)
        assert self._marks is not None
        unpublished = _files_of_others(table, set(_batches_of(self._store, self._marks, "levels")))
        if not unpublished:
            return whole
        kept = [part for part in whole.get_fragments() if not part.path.endswith(tuple(unpublished))]
        return FileSystemDataset(kept, whole.schema, whole.format, whole.filesystem)


def _files_of_others(table: DeltaTable, known: set[str]) -> list[str]:
    """Files of batches that are not among `known`: a file belongs to one batch, which its statistics name."""
    files = pa.table(table.get_add_actions(flatten=True)).select(["path", "min.batch"]).to_pylist()
    return [file["path"] for file in files if file["min.batch"] not in known]


@contextmanager
def _delta_errors(store: Store) -> Iterator[None]:
    """What delta-rs raises, as one line of ours."""
    from deltalake.exceptions import CommitFailedError, DeltaError

    try:
        yield
    except (OSError, DeltaError) as error:
        hint = (
            "another compaction has published meanwhile; run this one again"
            if isinstance(error, CommitFailedError) or "already exists" in str(error)
            else redact(str(error).splitlines()[0])
        )
        raise StoreError(f"{store.url}: the curated tables cannot be used: {hint}") from None


def _unpublished(committed: Committed, published: set[tuple[object, ...]], most: int | None = None) -> Committed:
    """Of so many units that hold something new, or of all, what is new."""
    new = {place: unit for place, unit in committed.where.items() if place not in published}
    chosen = set(sorted(set(new.values()))[:most])
    where = {place: unit for place, unit in new.items() if unit in chosen}
    columns = (committed.rows[name].to_pylist() for name in ("arm", "draw", "level", "seed"))
    rows = committed.rows.filter(pa.array([place in where for place in zip(*columns, strict=True)], pa.bool_()))
    return Committed(rows, where, {}, {unit: committed.units[unit] for unit in chosen})


def _tables(store: Store, part: Committed) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """A batch's rows by table, and what of them turned out damaged."""
    tables, damaged = {"levels": part.rows}, {}
    for kind in ("metrics", "masks"):
        tables[kind], broken = store.read_table(part, kind)
        damaged.update(broken)
    return tables, damaged


def publish(store: Store, tables: Mapping[str, pa.Table], where: Mapping[Place, str], marks: DeltaTable | None) -> None:
    """Write a batch from the units of its places; `marks` is the curated `levels` that these were chosen by."""
    from deltalake import CommitProperties, Transaction, write_deltalake

    version = (marks.transaction_version("lth-compact") or 0) if marks else 0
    batch = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    for kind in ("metrics", "masks", "levels"):  # levels last: its commit publishes the batch
        rows = as_stored(tables[kind])  # a table gets columns of scores with the first that is no accuracy
        rows = rows.append_column("batch", pa.array([batch] * rows.num_rows, pa.string()))
        if kind == "levels":
            names = zip(*(rows[name].to_pylist() for name in ROW_KEYS["levels"]), strict=True)
            rows = rows.append_column("unit", pa.array([where[place] for place in names], pa.string()))
        if kind != "levels":
            write_deltalake(
                _url(store, kind),
                rows,
                mode="append",
                partition_by=["experiment_id"],
                schema_mode="merge",
                storage_options=_options(store),
            )
            continue
        # Of two writers that have read the same version, Delta refuses the second.
        mark = CommitProperties(app_transactions=[Transaction("lth-compact", version + 1)])
        write_deltalake(
            marks or _created(store, rows.schema),
            rows,
            mode="append",
            partition_by=["experiment_id"],
            schema_mode="merge",
            commit_properties=mark,
        )


def _created(store: Store, schema: pa.Schema) -> DeltaTable:
    """The table `levels` without any row, as it is at its version 0, whoever creates it.

    Delta does not refuse the second of two writers that create a table with rows: it writes its rows behind the
    other's. Both begin from the empty table instead.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        DeltaTable.create(
            _url(store, "levels"),
            schema,
            mode="ignore",
            partition_by=["experiment_id"],
            storage_options=_options(store),
        )
    except (DeltaError, OSError) as error:
        if "already exists" not in str(error):
            raise
    table = DeltaTable(_url(store, "levels"), version=0, storage_options=_options(store))
    if not _is_empty(table):
        raise StoreError(f"{store.url}: another compaction has published meanwhile; run this one again")
    return table


def _is_empty(table: DeltaTable) -> bool:
    """Whether the table has just been created: nothing is published in it."""
    return table.version() == 0 and not table.file_uris()


def _published(store: Store, marks: DeltaTable | None, experiment_id: str) -> set[tuple[object, ...]]:
    """(arm, draw, level, seed) of the experiment that are in the curated tables."""
    if marks is None:
        return set()
    rows = _dataset(store, marks, "levels").to_table(
        ["arm", "draw", "level", "seed"], filter=pc.field("experiment_id") == experiment_id, use_threads=False
    )
    return set(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def _delete_unpublished(store: Store) -> None:
    """Remove rows of batches that were begun more than a day ago and never published."""
    marks = delta_table(store, "levels")
    known = _batches_of(store, marks, "levels") if marks is not None else []
    limit = f"{datetime.datetime.now(datetime.UTC) - _ABANDONED_AFTER:%Y%m%dT%H%M%S}"
    for kind in ("metrics", "masks"):
        table = delta_table(store, kind)
        for batch in _batches_of(store, table, kind) if table is not None else ():
            if table is not None and batch not in known and batch < limit:
                table.delete(f"batch = '{batch}'")


def _withdraw(store: Store, experiment_id: str) -> None:
    """Take back the batches with a unit that is committed no more, or now says something else: one that was set aside
    after it had been published. What else they hold is published anew.

    Whole batches, because those have files of their own: nothing is rewritten, and one commit does it.
    """
    curated = Curated(store)
    published = curated.units(experiment_id)
    landed = {unit_name_of(key) for key in store.objects.sizes(folder("levels", experiment_id))}
    aside = {
        unit_name_of(key.rpartition(".")[0])
        for key in store.objects.sizes(f"quarantine/{folder('levels', experiment_id)}")
    }
    suspected = published & (aside | (published - landed))
    if not suspected:
        return
    rows = curated.dataset("levels").to_table(filter=pc.field("experiment_id") == experiment_id, use_threads=False)
    rows = with_scores(rows)
    stale: set[str] = set()
    for unit in suspected:
        known, now = rows.filter(pc.equal(rows["unit"], unit)), store.levels_of(experiment_id, unit)
        columns = [name for name in result_columns("levels", known) if name in known.column_names]
        if now is not None:
            now = now.filter(pc.is_in(now["seed"], known["seed"].combine_chunks()))
        if now is None or content_hash(now, columns) != content_hash(known, columns):
            stale |= set(known["batch"].to_pylist())
    table = delta_table(store, "levels")
    if stale and table is not None:
        table.delete(f"batch IN ({', '.join(repr(batch) for batch in sorted(stale))})")


def _batches_of(store: Store, table: DeltaTable, kind: str) -> list[str]:
    rows = _dataset(store, table, kind).to_table(["batch"], use_threads=False)
    return sorted(pc.unique(rows["batch"]).to_pylist())


def _dataset(store: Store, table: DeltaTable, kind: str) -> Dataset:
    """A curated table to be scanned, through Arrow's own file systems: delta-rs' is written in Python, and threads that
    still call it abort a process that ends (pyarrow 26, deltalake 1.6: one in three)."""
    location = store.objects.location
    local = location.protocol == "file"
    root = str(Path(location.root).absolute()) if local else location.root
    tree = SubTreeFileSystem(f"{root}/curated/{kind}", LocalFileSystem() if local else _arrow_s3())
    return table.to_pyarrow_dataset(filesystem=tree)


def _arrow_s3() -> S3FileSystem:
    """Arrow's own S3, with the keys, server and region of the environment."""
    from pyarrow.fs import S3FileSystem

    server = urlsplit(_endpoint())
    options = (
        {"endpoint_override": server.netloc + server.path.rstrip("/"), "scheme": server.scheme} if server.netloc else {}
    )
    return S3FileSystem(region=_region(), connect_timeout=CONNECT_TIMEOUT, request_timeout=READ_TIMEOUT, **options)


def delta_table(store: Store, kind: str) -> DeltaTable | None:
    """The curated table of that name; None if there is none yet."""
    from deltalake import DeltaTable

    if store.objects.location.protocol not in ("file", "s3") or "%" in store.url:
        return None  # a store in memory, or one that has no curated tables, see `compact`
    if not DeltaTable.is_deltatable(_url(store, kind), _options(store)):
        return None
    return DeltaTable(_url(store, kind), storage_options=_options(store))


def _url(store: Store, kind: str) -> str:
    """Where delta-rs finds a table: it takes URLs at their word, decodes `%` and cuts at `#`."""
    location = store.objects.location
    base = Path(location.root).absolute().as_uri() if location.protocol == "file" else store.url
    return f"{base}/curated/{kind}"


def _options(store: Store) -> dict[str, str] | None:
    """What delta-rs wants to be told of the S3 server that fsspec and boto find by themselves."""
    if not store.url.startswith("s3://"):
        return None
    options = {"aws_conditional_put": "etag", "aws_region": _region()}
    if endpoint := _endpoint():
        options |= {"aws_endpoint": endpoint, "aws_allow_http": str(endpoint.startswith("http://")).lower()}
    return options


def _endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
