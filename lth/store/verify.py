"""Re-reading a store: every object that is damaged, missing, extra, or says something else than another.

Whatever lies in the store, it is named and the reading goes on.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lth.errors import DamagedObject, LthError, StoreError
from lth.store import checkpoints, claims, parquet
from lth.store.content import content_hash
from lth.store.curated import Curated, has_curated
from lth.store.delta_log import log_folder, log_troubles, seal_key
from lth.store.masks import mask_sha256, unpack
from lth.store.origin_columns import KIND_COLUMNS, NAMES, differing_origins, kinds_line
from lth.store.published import FOLDER, last_version, read_published, version_key
from lth.store.reader import READERS, Place
from lth.store.records import UnitRecord, decode_levels
from lth.store.remote_files import LARGEST_PUT
from lth.store.schemas import ANALYSIS_SCHEMAS, ROW_KEYS, UNIT_SCHEMAS, result_columns
from lth.store.seals import YAML, check_report
from lth.store.store import Store
from lth.store.unit import (
    UNIT_KINDS,
    experiment_key,
    folder,
    is_key,
    is_name,
    levels_key,
    pins_folder,
    sweeps_folder,
    ticket_key,
    unit_key,
    unit_name_of,
)

AHEAD = 4 * READERS
"""Units that are read ahead: they bound the memory."""

LARGEST_TABLE = 2**30
"""Bytes of an object of `levels` or of an analysis, far more than any has: what is larger is not read into memory."""

Trouble = Literal["damaged", "missing", "extra", "contradictory"]


class Finding(NamedTuple):
    """One object, or place, with what is wrong with it. `extra` ones are in nobody's way; the others need something
    done, which `reason` says."""

    trouble: Trouble
    key: str
    reason: str


@dataclass(frozen=True)
class Verified:
    """What was read, and what was found; `notes` are about the store as a whole, and no trouble."""

    objects: int
    bytes: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Experiments whose trainings were not all computed alike, and how many how."""


@dataclass(frozen=True)
class _Content:
    """A unit as it lies in the store; what could not be read is among `findings`."""

    record: UnitRecord | None
    levels: pa.Table | None
    tables: Mapping[str, pa.Table]
    bytes: int
    findings: tuple[Finding, ...]


@dataclass
class _Reading:
    """What has been read of a store so far."""

    store: Store
    objects: int = 0
    size: int = 0
    unsealed: list[str] = field(default_factory=list)
    ended_claims: int = 0
    findings: list[Finding] = field(default_factory=list)

    def listing(self, where: str) -> dict[str, int] | None:
        """The objects below a folder and their sizes; None, and a finding, if it cannot be listed."""
        try:
            return self.store.objects.sizes(where)
        except StoreError as error:
            self.findings.append(Finding("damaged", where, str(error)))
            return None

    def check(self, key: str, size: int, check: Callable[[bytes], None], remedy: str, most: int = LARGEST_PUT) -> None:
        """Read an object and check it; one that is gone by now is no trouble."""
        if not is_key(key):
            self.findings.append(Finding("extra", key, "its name is none of a store's; nobody reads it"))
            return
        self.objects += 1
        try:
            data = _read_object(self.store, key, size, most)
            if data is not None:
                self.size += len(data)
                check(data)
        except DamagedObject as error:
            self.findings.append(Finding("damaged", key, f"{error}; {remedy}"))


def verify(
    store: Store, experiments: Sequence[str] | None = None, progress: Callable[[int, int], None] = lambda *_: None
) -> Verified:
    """Read every object of some experiments, or of all, and hold each against what others say of it.

    `progress` is told the units done and in all. Raises StoreError only if the store cannot be reached.
    """
    chosen = store.experiments() if experiments is None else list(experiments)
    reading = _Reading(store)
    listings = {
        experiment_id: {kind: reading.listing(folder(kind, experiment_id)) for kind in (*UNIT_KINDS, *ANALYSIS_SCHEMAS)}
        for experiment_id in chosen
    }
    total, done = sum(len(listing["levels"] or ()) for listing in listings.values()), 0
    placed: dict[str, dict[Place, str]] = {}
    unlike: dict[str, str] = {}
    for experiment_id, listing in listings.items():
        reading.objects += sum(len(listing[kind] or ()) for kind in UNIT_KINDS)
        _described(reading, experiment_id)
        places = placed[experiment_id] = {}
        computed: list[pa.Table] = []
        twice: set[tuple[str, str]] = set()
        levels = listing["levels"] or {}
        names = sorted(
            unit_name_of(key)
            for key in levels
            if is_name(unit_name_of(key)) and key == levels_key(experiment_id, unit_name_of(key))
        )
        sizes = {key: size for kind in UNIT_KINDS for key, size in (listing[kind] or {}).items()}
        read = partial(_read, store, experiment_id, sizes)
        with ThreadPoolExecutor(READERS) as pool:
            for start in range(0, len(names), AHEAD):
                for content in pool.map(read, names[start : start + AHEAD]):
                    done += 1
                    reading.size += content.bytes
                    reading.findings += content.findings
                    if content.levels is not None and content.record is not None:
                        computed.append(content.levels.select(KIND_COLUMNS))
                        for place in _places(content.levels):
                            first = places.setdefault(place, content.record.unit.name)
                            if first != content.record.unit.name:
                                twice.add((first, content.record.unit.name))
                progress(done, total)
        if listing["levels"] is not None:
            reading.findings += _extra(experiment_id, listing, set(names))
        for pair in sorted(twice):
            reading.findings += _differences(read, experiment_id, *pair)
        for kind in ANALYSIS_SCHEMAS:
            for key, size in (listing[kind] or {}).items():
                reading.check(key, size, partial(_check_table, kind), "it can be computed again", LARGEST_TABLE)
        reading.findings += _pinned(store, experiment_id, computed)
        if computed and (line := kinds_line(pa.concat_tables(computed))):
            unlike[experiment_id] = line
        _beside(reading, experiment_id)
    if experiments is None:
        _tickets(reading)
    _curated(reading, placed)
    return Verified(reading.objects, reading.size, tuple(reading.findings), tuple(_notes(reading)), unlike)


def _check_table(kind: str, data: bytes) -> None:
    parquet.decode(data, kind)


def _check_progress(data: bytes) -> None:
    checkpoints.decode_progress(data)


def _notes(reading: _Reading) -> Iterator[str]:
    if reading.unsealed:
        many = len(reading.unsealed)
        yield (
            "not sealed (written before records, reports and curated tables were), so that what changed in them does "
            f"not show: {many} object{'s' * (many > 1)}: " + ", ".join(reading.unsealed[:3] + ["..."] * (many > 3))
        )
    if reading.ended_claims:
        yield f"{reading.ended_claims} claims of sweeps that have ended; `lth clean` removes them"


def _read_object(store: Store, key: str, size: int, most: int) -> bytes | None:
    """The content of an object; None if it is gone. DamagedObject (its text is only the reason) if it cannot be
    read."""
    if size > most:
        raise DamagedObject(f"it has {size:,} bytes, more than any object of its kind, and was not read")
    try:
        return store.read(key)
    except StoreError as error:
        raise DamagedObject(str(error)) from error
    except MemoryError as error:
        raise DamagedObject(f"there is no memory for its {size:,} bytes") from error


def _described(reading: _Reading, experiment_id: str) -> None:
    """The record of the experiment, and those of its sweeps."""
    key = experiment_key(experiment_id)
    try:
        data = reading.store.read(key)
        if data is None:
            text = "nothing says what the experiment is; the next run writes it again"
            reading.findings.append(Finding("missing", key, text))
        else:
            reading.store.describe(experiment_id)
            if YAML.open(data)[1] == "unsealed":
                reading.unsealed.append(key)
    except LthError as error:
        reading.findings.append(Finding("damaged", key, str(error)))
    for sweep, size in (reading.listing(sweeps_folder(experiment_id)) or {}).items():
        if size > LARGEST_TABLE or not is_key(sweep):
            reading.findings.append(Finding("extra", sweep, "it is no record of a sweep; remove it"))
            continue
        try:
            reading.store.read_sweep(sweep)
        except StoreError as error:
            reading.findings.append(Finding("damaged", sweep, str(error)))


def _pinned(store: Store, experiment_id: str, computed: Sequence[pa.Table]) -> Iterator[Finding]:
    """What decides results must be one thing for all units of an experiment."""
    where = pins_folder(experiment_id)
    said: dict[str, set[str]] = {}
    try:
        for record in store.pins(experiment_id):
            for name, value in {**record, **record["sources"]}.items():
                if isinstance(value, str):
                    said.setdefault(name, set()).add(value)
    except DamagedObject as error:
        yield Finding("damaged", error.key or where, str(error))
    for name, values in sorted(said.items()):
        if len(values) > 1:
            yield Finding("contradictory", where, f"sweeps began with different {name}: {', '.join(sorted(values))}")
    for name in NAMES:
        counts: Counter[str] = Counter()
        for table in computed:
            for value, device in zip(table[name].to_pylist(), table["device"].to_pylist(), strict=True):
                if value is not None and (name != "instructions" or device.startswith("cpu")):
                    counts[value.partition("+")[0]] += 1
        if len(counts) > 1:
            kinds = ", ".join(f"{value} ({count:,} trainings)" for value, count in counts.most_common())
            yield Finding(
                "contradictory", f"levels/experiment={experiment_id}", f"computed with different {name}: {kinds}"
            )


def _beside(reading: _Reading, experiment_id: str) -> None:
    """Trainings in progress, claims and reports."""
    for key, size in (reading.listing(folder("progress", experiment_id)) or {}).items():
        reading.check(key, size, _check_progress, "that training begins anew")
        reading.findings.append(
            Finding(
                "extra",
                key,
                "a training in progress, or one that was cut short; the next run of the same cohorts goes on from it, "
                "and `lth clean --progress` removes it",
            )
        )
    held = reading.listing(folder("claims", experiment_id)) or {}
    for key, size in held.items():
        reading.check(key, size, claims.check_claim, "nobody believes it; `lth clean` removes it")
    damaged = {finding.key for finding in reading.findings}
    try:
        living = claims.living(reading.store.objects, experiment_id)
    except StoreError:
        living = {}
    for key in held:
        if key in damaged:
            continue
        if key in living:
            reading.findings.append(Finding("extra", key, f"of {living[key]}, or it was killed; nothing depends on it"))
        else:
            reading.ended_claims += 1
    at = folder("reports", experiment_id)
    for key, size in (reading.listing(at) or {}).items():
        reading.check(key, size, partial(_check_report, reading, key), "write the report again")


def _check_report(reading: _Reading, key: str, data: bytes) -> None:
    if check_report(key, data) == "unsealed":
        reading.unsealed.append(key)


def _tickets(reading: _Reading) -> None:
    for key, size in (reading.listing("tickets") or {}).items():

        def check(data: bytes, key: str = key) -> None:
            if key != ticket_key(hashlib.sha256(data).hexdigest()):
                raise DamagedObject("its bytes are not those of its name")

        reading.check(key, size, check, "export it again")


def _read(store: Store, experiment_id: str, sizes: Mapping[str, int], name: str) -> _Content:
    """A unit with everything that it recorded, each object held against its record and the others."""
    key = levels_key(experiment_id, name)
    try:
        data = _read_object(store, key, sizes.get(key, 0), LARGEST_TABLE)
        if data is None:  # put aside since it was listed
            return _Content(None, None, {}, 0, ())
        levels, record = decode_levels(data, name)
    except DamagedObject as error:
        return _Content(None, None, {}, 0, (Finding("damaged", key, str(error)),))
    findings: list[Finding] = []
    tables: dict[str, pa.Table] = {}
    size = len(data)
    for kind, expected in record.objects.items():
        try:
            if sizes.get(expected.key, expected.bytes) != expected.bytes:
                raise DamagedObject(f"it has {sizes[expected.key]:,} bytes; unit {name} recorded {expected.bytes:,}")
            found = _read_object(store, expected.key, expected.bytes, LARGEST_PUT)
            if found is None:
                if kind != "checkpoints":  # those are kept no longer than they are needed
                    why = f"unit {name} recorded it; its next run does it anew"
                    findings.append(Finding("missing", expected.key, why))
                continue
            size += len(found)
            if hashlib.sha256(found).hexdigest() != expected.sha256:
                raise DamagedObject(f"its bytes are not those that unit {name} recorded")
            if kind == "checkpoints":
                checkpoints.decode(found)
            else:
                tables[kind] = parquet.decode(found, kind)[0]
        except DamagedObject as error:
            findings.append(Finding("damaged", expected.key, str(error)))
    if any(finding.trouble == "missing" for finding in findings) and store.read(key) is None:
        return _Content(None, None, {}, size, ())  # the whole unit went while it was read
    findings += _contradictions(key, levels, tables)
    return _Content(record, levels, tables, size, tuple(findings))


def _contradictions(key: str, levels: pa.Table, tables: Mapping[str, pa.Table]) -> Iterator[Finding]:
    """Where the objects of a unit contradict each other."""
    rows = levels.select(
        ["seed", "mask_sha256", "weights_remaining", "early_stop_step", "score", "val_score_at_early_stop"]
    ).to_pylist()
    if "masks" in tables:
        masked = [row for row in rows if row["mask_sha256"] is not None]
        try:
            unpack(tables["masks"], [row["seed"] for row in masked])
        except DamagedObject as error:
            yield Finding("contradictory", key, f"its masks do not hold together: {error}")
        digests = mask_sha256(tables["masks"])
        counts = tables["masks"].group_by("seed").aggregate([("remaining", "sum")]).to_pydict()
        remaining = dict(zip(counts["seed"], counts["remaining_sum"], strict=True))
        for row in masked:
            if digests.get(row["seed"]) != row["mask_sha256"] or remaining[row["seed"]] != row["weights_remaining"]:
                yield Finding("contradictory", key, f"seed {row['seed']}: the mask is not the one that levels speak of")
    if "metrics" in tables:
        metrics = tables["metrics"].filter(pc.equal(tables["metrics"]["split"], "val"))
        measured = dict(
            zip(
                zip(metrics["seed"].to_pylist(), metrics["step"].to_pylist(), strict=True),
                metrics["score_value"].to_pylist(),
                strict=True,
            )
        )
        for row in rows:
            curve = measured.get((row["seed"], row["early_stop_step"]))
            if curve is not None and curve != row["val_score_at_early_stop"]:
                yield Finding(
                    "contradictory",
                    key,
                    f"seed {row['seed']}: validation {row['score']} at early stop is "
                    f"{row['val_score_at_early_stop']} in levels and {curve} in metrics",
                )


def _extra(experiment_id: str, listing: Mapping[str, Mapping[str, int] | None], units: set[str]) -> Iterator[Finding]:
    """Objects that belong to no committed unit."""
    for kind in UNIT_KINDS:
        for key in sorted(listing[kind] or ()):
            name = unit_name_of(key)
            if not is_name(name) or key != unit_key(kind, experiment_id, name):
                yield Finding("extra", key, "its name is no unit's; nobody reads it")
            elif name not in units:
                yield Finding("extra", key, "its unit is not committed: a commit was cut short, or runs just now")


def _differences(read: Callable[[str], _Content], experiment_id: str, first: str, second: str) -> Iterator[Finding]:
    """Two units that hold the same trainings must say the same of them."""
    one, other = (read(name) for name in (first, second))
    if one.levels is None or other.levels is None:
        return
    seeds = sorted(set(one.levels["seed"].to_pylist()) & set(other.levels["seed"].to_pylist()))
    sides = [{"levels": content.levels, **content.tables} for content in (one, other)]
    for kind in ("levels", "metrics", "masks"):
        if kind in sides[0] and kind in sides[1]:
            parts = [side[kind].filter(pc.is_in(side[kind]["seed"], pa.array(seeds, pa.int64()))) for side in sides]
            if len({content_hash(part, result_columns(kind, part)) for part in parts}) > 1:
                differing = differing_origins(one.levels, other.levels)
                theirs, its = (" and ".join(side) for side in zip(*differing, strict=True)) if differing else ("", "")
                cause = (
                    f"that was computed with {theirs}, this with {its}"
                    if differing
                    else "as far as they say, both were computed alike"
                )
                yield Finding(
                    "contradictory",
                    unit_key(kind, experiment_id, second),
                    f"of seeds that both hold it says something else than unit {first}: {cause}; remove one",
                )


def _curated(reading: _Reading, placed: Mapping[str, Mapping[Place, str]]) -> None:
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
            why = "an earlier version" if key.startswith(FOLDER) else "no version of the curated tables lists it"
            reading.findings.append(Finding("extra", key, f"{why}; a compaction removes it after a day"))
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
    published = list(_places(levels))
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
        others = set(_places(rows.group_by(list(ROW_KEYS["levels"])).aggregate([]))) - set(published)
        if others:
            yield Finding(
                "contradictory",
                f"curated/{kind}/experiment_id={experiment_id}",
                f"it has rows of {len(others)} trainings that levels has not; {REBUILD}",
            )


def _by_unit(levels: pa.Table, landed: Mapping[Place, str]) -> Iterable[tuple[str, pa.Table]]:
    units = pa.array([landed.get(place) for place in _places(levels)], pa.string())
    for unit in sorted(pc.unique(units.drop_null()).to_pylist()):
        yield unit, levels.filter(pc.equal(units, unit))


def _places(rows: pa.Table) -> Iterator[Place]:
    return zip(*(rows[name].to_pylist() for name in ROW_KEYS["levels"]), strict=True)
