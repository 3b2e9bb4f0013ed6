"""Re-reading the curated tables: every object of them, and whether what is published is what has landed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from lth.errors import DamagedObject, StoreError
from lth.store.content import content_hash
from lth.store.curated import Curated, has_curated
from lth.store.delta_log import log_folder, log_troubles, seal_key
from lth.store.findings import Finding, Reading, places_of
from lth.store.published import FOLDER, last_version, read_published, version_key
from lth.store.reader import Place
from lth.store.schemas import ROW_KEYS, UNIT_SCHEMAS, result_columns
from lth.store.store import Store
from lth.store.unit import is_key


def check_curated(reading: Reading, placed: Mapping[str, Mapping[Place, str]]) -> None:
    """Every object of the curated tables, and whether what is published is what has landed."""
    store, objects = reading.store, reading.store.objects
    listing = reading.listing("curated") if has_curated(store) else None
    if not listing:
        return
    reading.objects += len(listing)
    reading.size += sum(listing.values())
    if last_version(objects) == 0:
        if any(key.startswith(log_folder("levels")) for key in listing):
            reading.unsealed.append("curated/ (which `lth compact` seals)")
        else:
            cut_short = "a publication was cut short, or runs just now; nobody reads it"
            reading.findings += [Finding("extra", key, cut_short) for key in sorted(listing)]
        return
    last = version_key(last_version(objects))
    known = {last, *map(seal_key, UNIT_SCHEMAS)}
    try:
        published = read_published(objects)
    except DamagedObject as error:
        reading.findings.append(Finding("damaged", last, str(error)))
        return
    curated = Curated(store, published)
    for kind in UNIT_SCHEMAS:
        curated.is_whole(kind)
        known |= {file.key for file in published.files[kind]}
        for key, why in log_troubles(objects, kind).items():
            reading.findings.append(
                Finding("damaged", key, f"{why}; no reader of ours needs it, `lth compact` mends it")
            )
    reading.findings += [Finding("damaged", key, why) for key, why in curated.damaged.items()]
    for key in sorted(listing):
        if key not in known and not any(key.startswith(log_folder(kind)) for kind in UNIT_SCHEMAS):
            if is_key(key) and (key.startswith(FOLDER) or key.endswith(".parquet")):
                reading.unlisted += 1
            else:
                reading.findings.append(Finding("extra", key, "it is no file of a curated table; nobody reads it"))
    for experiment_id, landed in placed.items():
        try:
            reading.findings += _published(store, curated, experiment_id, landed)
        except StoreError as error:
            reading.findings.append(Finding("damaged", f"curated/levels/experiment_id={experiment_id}", str(error)))


REBUILD = "`lth compact --rebuild` mends it"


def _published(store: Store, curated: Curated, experiment_id: str, landed: Mapping[Place, str]) -> Iterator[Finding]:
    """What is published must be what has landed."""
    key = f"curated/levels/experiment_id={experiment_id}"
    levels = curated.read("levels", [experiment_id])
    published = list(places_of(levels))
    if len(published) != len(set(published)):
        many = len(published) - len(set(published))
        yield Finding("contradictory", key, f"{many} trainings are published twice; {REBUILD}")
    gone = [place for place in published if place not in landed]
    if gone:
        yield Finding(
            "contradictory",
            key,
            f"{len(gone)} published trainings are in no committed unit any more, the first is {gone[0]}; {REBUILD}",
        )
    for unit, rows in _by_unit(levels, landed):
        now = store.levels_of(experiment_id, unit)
        if now is None:
            continue
        seeds = pa.array(rows["seed"].to_pylist(), pa.int64())
        same = now.filter(pc.is_in(now["seed"], seeds))
        columns = result_columns("levels", same)
        if content_hash(same, columns) != content_hash(rows, columns):
            yield Finding("contradictory", key, f"what is published of unit {unit} is not what has landed; {REBUILD}")
    for kind in ("metrics", "masks"):
        rows = curated.dataset(kind, [experiment_id]).to_table(list(ROW_KEYS["levels"]))
        others = set(places_of(rows.group_by(list(ROW_KEYS["levels"])).aggregate([]))) - set(published)
        if others:
            yield Finding(
                "contradictory",
                f"curated/{kind}/experiment_id={experiment_id}",
                f"it has rows of {len(others)} trainings that levels has not; {REBUILD}",
            )


def _by_unit(levels: pa.Table, landed: Mapping[Place, str]) -> Iterable[tuple[str, pa.Table]]:
    units = pa.array([landed.get(place) for place in places_of(levels)], pa.string())
    for unit in sorted(pc.unique(units.drop_null()).to_pylist()):
        yield unit, levels.filter(pc.equal(units, unit))
