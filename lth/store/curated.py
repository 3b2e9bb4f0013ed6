"""Curated tables: what units have landed, gathered into few files under `curated/`, for analysis.

They are made of the units' own objects and can be made again from them. Every publication is a batch of one
experiment: a file for each table, and then the version that lists them (see `published`), which publishes them at once.
So a publication can be killed at any moment: files that no version lists are not read, and the next one publishes those
units again. Delta logs follow, for other programs.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import logging
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.dataset import Dataset, FileSystemDataset, ParquetFileFormat, ParquetFragmentScanOptions
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from lth.errors import DamagedObject, StoreError
from lth.store.content import content_hash
from lth.store.delta_log import PARTITION, endpoint_url, follow, region
from lth.store.location import redact
from lth.store.published import (
    NOTHING,
    Published,
    PublishedFile,
    last_version,
    publish_next,
    read_published,
    remove_earlier,
    trouble_of,
)
from lth.store.reader import READERS, Committed, Place
from lth.store.remote_files import CONNECT_TIMEOUT, READ_TIMEOUT
from lth.store.schemas import ROW_KEYS, UNIT_SCHEMAS, result_columns
from lth.store.score_columns import as_stored, with_scores
from lth.store.store import Store
from lth.store.unit import folder, unit_name_of

if TYPE_CHECKING:
    from pyarrow.fs import S3FileSystem

log = logging.getLogger(__name__)

UNITS_AT_ONCE = 500
"""Units of a batch: they bound the memory, and the number of files grows with landed rows, not with landed objects."""
_ABANDONED_AFTER = datetime.timedelta(days=1)
"""How long files that no version lists stay: another writer may be about to list them, a reader still at them."""
_BATCH = pa.field("batch", pa.string())
_UNIT = pa.field("unit", pa.string())
FALLBACK = "its rows are read from where they landed; `lth compact --rebuild` writes it anew"


@dataclass(frozen=True)
class Compacted:
    """What a compaction did: rows added by table, and what was found damaged: key -> what is wrong."""

    added: Mapping[str, int]
    damaged: Mapping[str, str]


def has_curated(store: Store) -> bool:
    """Whether the store is one that can have curated tables: in a folder or on S3."""
    return store.objects.location.protocol in ("file", "s3") and "%" not in store.url


def compact(store: Store, units_at_once: int = UNITS_AT_ONCE, rebuild: bool = False) -> Compacted:
    """Publish every committed training that is not yet curated.

    A unit with damaged metrics or masks is set aside, so that its sweep does it anew; what was published of a unit that
    has been set aside since is withdrawn. With `rebuild` every published file is read, and what is damaged or not what
    has landed is published anew. One writer at a time: of two that run at once, one fails with StoreError and publishes
    nothing twice. Raises StoreError if the store cannot be used.
    """
    if "%" in store.url:  # delta-rs 1.6 decodes it twice, and would write beside the store
        raise StoreError(f"{store.url}: curated tables cannot lie in a folder with '%' in its name; rename it")
    if not has_curated(store):
        raise StoreError(
            f"{store.url}: curated tables lie in a folder or on S3, not in {store.objects.location.protocol}"
        )
    added, damaged = dict.fromkeys(UNIT_SCHEMAS, 0), {}
    experiments = store.experiments()  # first: the store says in one line if it cannot be reached
    published = _whole_version(store, experiments, rebuild)
    _remove_abandoned(store, published)
    for experiment_id in experiments:
        published = _withdraw(store, published, experiment_id, everything=rebuild)
        while True:
            curated = Curated(store, published)
            part = _unpublished(curated.landed(experiment_id), set(), units_at_once)
            if not part.where:
                break
            tables, broken = _tables(store, part)
            if broken:
                damaged.update(broken)
                for unit in {unit_name_of(key) for key in broken}:
                    store.quarantine_unit(experiment_id, unit)
                continue
            published = publish(store, published, experiment_id, tables, part.where)
            for kind, table in tables.items():
                added[kind] += table.num_rows
    _follow(store, published)
    return Compacted(added, damaged)


def withdraw_experiment(store: Store, experiment_id: str) -> None:
    """Take all rows of an experiment out of the curated tables, and remove their files."""
    if not has_curated(store) or last_version(store.objects) == 0:
        return
    published = read_published(store.objects)
    without = published.without(lambda file: file.experiment_id == experiment_id)
    if without != published:
        published = publish_next(store.objects, without)
    _follow(store, published)
    for kind in UNIT_SCHEMAS:
        for key in store.objects.sizes(f"curated/{kind}/{PARTITION}={experiment_id}"):
            store.objects.delete(key)


class Curated:
    """The published rows, as they are at the moment at which this is made.

    Nothing is read before it is asked for, and no file is believed before its bytes were held against the digest that
    was published with it. The rows of a file that is damaged are among those that have landed and are not published;
    `damaged` names it.
    """

    def __init__(self, store: Store, published: Published | None = None) -> None:
        self._store = store
        self._troubles: dict[str, str | None] = {}
        self._damaged: dict[str, str] = {}
        self._published = published or NOTHING
        if published is None and has_curated(store):
            try:
                self._published = read_published(store.objects)
            except DamagedObject as error:
                self._damaged[str(error.key)] = "it is not what was written; " + FALLBACK

    @property
    def damaged(self) -> dict[str, str]:
        """Key -> what is wrong with it, of what has been read so far."""
        return dict(self._damaged)

    @property
    def empty(self) -> bool:
        """Whether nothing is published yet."""
        return self._published.empty

    def units(self, experiment_id: str, kind: str = "levels") -> set[str]:
        """The units whose rows of that table are published, in files that are whole."""
        return set(pc.unique(self._levels([experiment_id], ["unit"], kind)["unit"]).to_pylist())

    def is_whole(self, kind: str, experiments: Sequence[str] | None = None) -> bool:
        """Whether that table has the rows of everything that `levels` has, of some experiments or of all."""
        return len(self._whole(kind, experiments)) == len(self._whole("levels", experiments))

    def dataset(self, kind: str, experiments: Sequence[str] | None = None) -> Dataset:
        """The published rows of `levels`, `metrics` or `masks`, to be scanned, of some experiments or of all."""
        return _dataset(self._store, kind, self._whole(kind, experiments))

    def landed(self, experiment_id: str, kind: str = "levels") -> Committed:
        """What is committed of an experiment and not published in that table: reads the `levels` objects of those
        units only."""
        committed = self._store.committed(experiment_id, self.units(experiment_id, kind))
        places: set[tuple[object, ...]] = set()
        if committed.where:
            rows = self._levels([experiment_id], list(ROW_KEYS["levels"]), kind)
            places = set(zip(*(column.to_pylist() for column in rows.columns), strict=True))
        part = _unpublished(committed, places)
        return Committed(part.rows, part.where, committed.damaged, part.units)

    def read(self, kind: str, experiments: Sequence[str] | None = None) -> pa.Table:
        """The rows of some experiments, or of all, in the columns of the table's schema; those that are younger than a
        row are null in it."""
        schema = UNIT_SCHEMAS[kind]
        if self.empty:
            return schema.empty_table()
        with _scanning(self._store):
            rows = self.dataset(kind, experiments).to_table(schema.names)
        rows = with_scores(rows)
        return pa.Table.from_arrays([rows[field.name].cast(field.type) for field in schema], schema=schema)

    def _levels(self, experiments: Sequence[str], columns: list[str], kind: str) -> pa.Table:
        """Columns of the rows of `levels` whose rows of `kind` are published in whole files."""
        whole = {file.part for file in self._whole(kind, experiments)}
        files = [file for file in self._whole("levels", experiments) if file.part in whole]
        with _scanning(self._store):
            return _dataset(self._store, "levels", files).to_table(columns, use_threads=False)

    def _whole(self, kind: str, experiments: Sequence[str] | None) -> list[PublishedFile]:
        """The files of a table that are what was published, and whose rows of `levels` are."""
        files = {name: self._published.of(name, experiments) for name in dict.fromkeys(("levels", kind))}
        unread = [file for some in files.values() for file in some if file.key not in self._troubles]
        with ThreadPoolExecutor(READERS) as pool:
            for file, trouble in zip(
                unread, pool.map(lambda file: trouble_of(self._store.objects, file), unread), strict=True
            ):
                self._troubles[file.key] = trouble
                if trouble is not None:
                    self._damaged[file.key] = f"{trouble}; {FALLBACK}"
        broken = {file.part for some in files.values() for file in some if self._troubles[file.key] is not None}
        return [file for file in files[kind] if file.part not in broken]


@contextmanager
def _scanning(store: Store) -> Iterator[None]:
    """What Arrow raises of a file that was whole a moment ago, as one line of ours."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"{store.url}: the curated tables cannot be read: {redact(str(error).splitlines()[0])}; try again, and see "
            "`lth verify`"
        ) from None


def _whole_version(store: Store, experiments: Collection[str], rebuild: bool) -> Published:
    """What is published, as far as it is to stay: a list that is damaged is begun anew, parts that lack a file or are
    of experiments that are gone are left out; with `rebuild` those of which a file is not what was published, too."""
    objects = store.objects
    try:
        published = read_published(objects)
    except DamagedObject as error:
        log.warning("%s: everything is published anew", error)
        return publish_next(objects, Published(last_version(objects), NOTHING.files))
    sizes = {key: size for kind in UNIT_SCHEMAS for key, size in objects.sizes(f"curated/{kind}").items()}
    with ThreadPoolExecutor(READERS) as pool:
        files = [file for some in published.files.values() for file in some]
        read = {file.key for kind in published.files if rebuild or kind == "levels" for file in published.files[kind]}
        troubles = pool.map(lambda file: trouble_of(objects, file) if file.key in read else None, files)
        broken = {
            file.key
            for file, trouble in zip(files, troubles, strict=True)
            if trouble is not None or sizes.get(file.key) != file.bytes or file.experiment_id not in experiments
        }
    whole = published.without(lambda file: file.key in broken)
    return publish_next(objects, whole) if whole != published else published


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


def publish(
    store: Store, published: Published, experiment_id: str, tables: Mapping[str, pa.Table], where: Mapping[Place, str]
) -> Published:
    """Write a batch of an experiment from the units of its places, and the version that lists it."""
    batch = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    files = {}
    for kind in ("metrics", "masks", "levels"):
        rows = as_stored(tables[kind])  # a file has columns of scores only where one is no accuracy
        rows = rows.append_column(_BATCH, pa.array([batch] * rows.num_rows, pa.string()))
        if kind == "levels":
            places = zip(*(rows[name].to_pylist() for name in ROW_KEYS["levels"]), strict=True)
            rows = rows.append_column(_UNIT, pa.array([where[place] for place in places], pa.string()))
        data = _encoded(rows.drop_columns([PARTITION]))
        key = f"curated/{kind}/{PARTITION}={experiment_id}/{batch}.parquet"
        if not store.objects.create(key, data):
            raise StoreError(f"{store.url}: {key} exists already; run this compaction again")
        files[kind] = PublishedFile(
            key, experiment_id, batch, len(data), hashlib.sha256(data).hexdigest(), rows.num_rows
        )
    return publish_next(store.objects, published.having(files))


def _encoded(rows: pa.Table) -> bytes:
    texts = [field.name for field in rows.schema if pa.types.is_string(field.type) and field.name != "sha256"]
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd", use_dictionary=texts, write_page_checksum=True)
    return sink.getvalue()


def _follow(store: Store, published: Published) -> None:
    """Bring the Delta logs to what is published."""
    for kind, files in published.files.items():
        follow(store.objects, kind, files, _columns(kind))


def _columns(kind: str) -> pa.Schema:
    """What files of a table may hold, and the column of their folder; each row has its own of them."""
    fields = [pa.field(field.name, field.type) for field in UNIT_SCHEMAS[kind]]
    return pa.schema([*fields, _BATCH, *([_UNIT] if kind == "levels" else [])])


def _remove_abandoned(store: Store, published: Published) -> None:
    """Remove files that no version lists: of publications that were killed, and of what was withdrawn."""
    remove_earlier(store.objects, published)
    listed = {file.key for files in published.files.values() for file in files}
    entries = [entry for kind in UNIT_SCHEMAS for entry in store.objects.entries(f"curated/{kind}").items()]
    unlisted = {
        key: entry
        for key, entry in entries
        if key.endswith(".parquet") and "/_delta_log/" not in key and key not in listed
    }
    if not unlisted:
        return
    before = store.objects.now() - _ABANDONED_AFTER.total_seconds()
    for key, entry in unlisted.items():
        if entry.changed < before:
            store.objects.delete(key)


def _withdraw(store: Store, published: Published, experiment_id: str, everything: bool) -> Published:
    """Take back the batches with a unit that is committed no more, or now says something else: one that was set aside
    after it had been published. What else they hold is published anew. `everything`: hold every unit against what has
    landed.
    """
    curated = Curated(store, published)
    units = curated.units(experiment_id)
    landed = {unit_name_of(key) for key in store.objects.sizes(folder("levels", experiment_id))}
    aside = {
        unit_name_of(key.rpartition(".")[0])
        for key in store.objects.sizes(f"quarantine/{folder('levels', experiment_id)}")
    }
    suspected = units if everything else units & (aside | (units - landed))
    if not suspected:
        return published
    with _scanning(store):
        rows = curated.dataset("levels", [experiment_id]).to_table(use_threads=False)
    rows = with_scores(rows)
    stale: set[tuple[str, str]] = set()
    for unit in suspected:
        known, now = rows.filter(pc.equal(rows["unit"], unit)), store.levels_of(experiment_id, unit)
        if now is None and unit in landed and unit not in aside:
            continue  # damaged since: what was published of it is all that there is
        columns = [name for name in result_columns("levels", known) if name in known.column_names]
        if now is not None:
            now = now.filter(pc.is_in(now["seed"], known["seed"].combine_chunks()))
        if now is None or content_hash(now, columns) != content_hash(known, columns):
            stale |= {(experiment_id, batch) for batch in known["batch"].to_pylist()}
    if not stale:
        return published
    return publish_next(store.objects, published.without(lambda file: file.part in stale))


def _dataset(store: Store, kind: str, files: Iterable[PublishedFile]) -> Dataset:
    """Files of a curated table to be scanned, through Arrow's own file systems: threads that still call one that is
    written in Python abort a process that ends (pyarrow 26: one in three)."""
    location = store.objects.location
    local = location.protocol == "file"
    root = str(Path(location.root).absolute()) if local else location.root
    tree = SubTreeFileSystem(root, LocalFileSystem() if local else _arrow_s3())
    form = ParquetFileFormat(default_fragment_scan_options=ParquetFragmentScanOptions(page_checksum_verification=True))
    fragments = [
        form.make_fragment(file.key, tree, partition_expression=pc.field(PARTITION) == file.experiment_id)
        for file in files
    ]
    return FileSystemDataset(fragments, _columns(kind), form, tree)


def _arrow_s3() -> S3FileSystem:
    """Arrow's own S3, with the keys, server and region of the environment."""
    from pyarrow.fs import S3FileSystem

    server = urlsplit(endpoint_url())
    options = (
        {"endpoint_override": server.netloc + server.path.rstrip("/"), "scheme": server.scheme} if server.netloc else {}
    )
    return S3FileSystem(region=region(), connect_timeout=CONNECT_TIMEOUT, request_timeout=READ_TIMEOUT, **options)
