"""The Delta Lake logs of the curated tables, for programs that are not lth: they follow what is published.

Nothing of ours reads them. Whatever is missing or damaged in a log is made again from the list of published files.

    curated/logs/<table>.json     the digests of the objects of a log, sealed
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pyarrow as pa

from lth.errors import DamagedObject, StoreError
from lth.store.checksum import open_sealed, sealed
from lth.store.location import Location, redact
from lth.store.objects import Objects
from lth.store.published import PublishedFile

if TYPE_CHECKING:
    from deltalake import DeltaTable

PARTITION = "experiment_id"


def log_folder(kind: str) -> str:
    return f"curated/{kind}/_delta_log"


def seal_key(kind: str) -> str:
    return f"curated/logs/{kind}.json"


def log_troubles(objects: Objects, kind: str) -> dict[str, str]:
    """What of a log is not as it was left: key -> what is wrong. Objects that came later than the seal are no trouble:
    a publication was cut short, or runs."""
    key = seal_key(kind)
    data = objects.read(key)
    if data is None:
        return {}
    try:
        known = {str(name): (int(size), str(sha256)) for name, (size, sha256) in open_sealed(data)["objects"].items()}
    except (DamagedObject, KeyError, TypeError, ValueError, AttributeError) as error:
        return {key: str(error)}
    troubles = {}
    for name, digest in known.items():
        try:
            found = objects.digest(f"{log_folder(kind)}/{name}")
        except StoreError as error:
            troubles[f"{log_folder(kind)}/{name}"] = f"it cannot be read: {error}"
            continue
        if found != digest:
            why = "it is missing" if found is None else "its bytes are not those that were written"
            troubles[f"{log_folder(kind)}/{name}"] = why
    return troubles


def follow(objects: Objects, kind: str, files: Sequence[PublishedFile], schema: pa.Schema) -> None:
    """Bring the log of a table to these files, whose columns, `experiment_id` among them, are in `schema`, and seal it.

    A log that is damaged, or cannot be read, is written anew.
    """
    with delta_errors(objects.location):
        if log_troubles(objects, kind):
            _forget(objects, kind)
        for attempt in (1, 2):
            try:
                _commit(objects, kind, files, schema)
                break
            except Exception as error:
                if attempt == 2 or not _is_unreadable(error):
                    raise
                _forget(objects, kind)
    _seal(objects, kind)


def _commit(objects: Objects, kind: str, files: Sequence[PublishedFile], schema: pa.Schema) -> None:
    from deltalake import DeltaTable
    from deltalake.schema import Field, PrimitiveType
    from deltalake.schema import Schema as DeltaSchema
    from deltalake.transaction import AddAction, RemoveAction

    url, options = _url(objects.location, kind), storage_options(objects.location)
    if not DeltaTable.is_deltatable(url, options):
        if not files:
            return
        DeltaTable.create(url, schema, mode="ignore", partition_by=[PARTITION], storage_options=options)
    table = DeltaTable(url, storage_options=options)
    known = {field.name for field in table.schema().fields}
    fields = DeltaSchema.from_arrow(schema).fields
    younger = [Field(field.name, field.type, nullable=True) for field in fields if field.name not in known]
    if younger:
        assert all(isinstance(field.type, PrimitiveType) for field in younger)
        table.alter.add_columns(younger)
        table = DeltaTable(url, storage_options=options)
    there = _active(table)
    wanted = {file.key.removeprefix(f"curated/{kind}/"): file for file in files}
    now = int(time.time() * 1000)
    actions: list[AddAction | RemoveAction] = [
        AddAction(path, file.bytes, {PARTITION: file.experiment_id}, now, True, _statistics(file))
        for path, file in wanted.items()
        if path not in there
    ]
    actions += [
        RemoveAction(path, True, now, size, {PARTITION: experiment_id})
        for path, (size, experiment_id) in there.items()
        if path not in wanted
    ]
    if actions:
        table.create_write_transaction(actions, mode="append", schema=table.schema(), partition_by=[PARTITION])


def _statistics(file: PublishedFile) -> str:
    return json.dumps(
        {
            "numRecords": file.rows,
            "minValues": {"batch": file.batch},
            "maxValues": {"batch": file.batch},
            "nullCount": {"batch": 0},
        }
    )


def _active(table: DeltaTable) -> Mapping[str, tuple[int, str]]:
    """The files that the log speaks of: path -> size and experiment."""
    rows = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return {row["path"]: (row["size_bytes"], row[f"partition.{PARTITION}"]) for row in rows}


def _forget(objects: Objects, kind: str) -> None:
    for key in objects.sizes(log_folder(kind)):
        objects.delete(key)
    objects.delete(seal_key(kind))


def _seal(objects: Objects, kind: str) -> None:
    digests = {key.rpartition("/")[2]: objects.digest(key) for key in sorted(objects.sizes(log_folder(kind)))}
    data = sealed({"objects": {name: list(digest) for name, digest in digests.items() if digest is not None}})
    if digests and objects.read(seal_key(kind)) != data:
        objects.replace(seal_key(kind), data)


def _is_unreadable(error: Exception) -> bool:
    """Whether it is the log itself, not the way to it."""
    from deltalake.exceptions import CommitFailedError, DeltaError

    return isinstance(error, DeltaError | ValueError) and not isinstance(error, CommitFailedError)


@contextmanager
def delta_errors(location: Location) -> Iterator[None]:
    """What delta-rs raises, as one line of ours."""
    from deltalake.exceptions import DeltaError

    try:
        yield
    except (OSError, ValueError, DeltaError) as error:
        raise StoreError(
            f"{location.url}: the Delta logs of the curated tables cannot be written: "
            f"{redact((str(error).splitlines() or [type(error).__name__])[0])}; run `lth compact` again"
        ) from None


def _url(location: Location, kind: str) -> str:
    """Where delta-rs finds a table: it takes URLs at their word, decodes `%` and cuts at `#`."""
    base = Path(location.root).absolute().as_uri() if location.protocol == "file" else location.url
    return f"{base}/curated/{kind}"


def storage_options(location: Location) -> dict[str, str] | None:
    """What delta-rs wants to be told of the S3 server that fsspec and boto find by themselves."""
    if location.protocol != "s3":
        return None
    options = {"aws_conditional_put": "etag", "aws_region": region()}
    if server := endpoint_url():
        options |= {"aws_endpoint": server, "aws_allow_http": str(urlsplit(server).scheme == "http").lower()}
    return options


def endpoint_url() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")


def region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
