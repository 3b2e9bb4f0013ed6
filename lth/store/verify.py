"""Re-reading a store: every object that is damaged, missing, extra, or says something else than another."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lth.errors import DamagedObject, LthError
from lth.store import checkpoints, parquet
from lth.store.content import content_hash
from lth.store.curated import Curated
from lth.store.masks import mask_sha256, unpack
from lth.store.origin_columns import KIND_COLUMNS, NAMES, differing_origins, kinds_line
from lth.store.reader import READERS, Place
from lth.store.records import UnitRecord, decode_levels
from lth.store.schemas import ANALYSIS_SCHEMAS, ROW_KEYS, result_columns
from lth.store.store import Store
from lth.store.unit import UNIT_KINDS, experiment_key, folder, is_name, levels_key, pins_folder, unit_key, unit_name_of

AHEAD = 4 * READERS
"""Units that are read ahead: they bound the memory."""

Trouble = Literal["damaged", "missing", "extra", "contradictory"]


class Finding(NamedTuple):
    """One object, or place, with what is wrong with it. `extra` ones are in nobody's way; the others need something
    done, which `reason` says."""

    trouble: Trouble
    key: str
    reason: str


@dataclass(frozen=True)
class Verified:
    """What was read, and what was found."""

    objects: int
    bytes: int
    findings: tuple[Finding, ...]
    kinds: Mapping[str, str]
    """Experiments whose trainings were not all computed alike, and how many how."""


@dataclass(frozen=True)
class _Content:
    """A unit as it lies in the store; what could not be read is among `findings`."""

    record: UnitRecord | None
    levels: pa.Table | None
    tables: Mapping[str, pa.Table]
    bytes: int
    findings: tuple[Finding, ...]


def verify(
    store: Store, experiments: Sequence[str] | None = None, progress: Callable[[int, int], None] = lambda *_: None
) -> Verified:
    """Read every object of some experiments, or of all, and hold each against what others say of it.

    `progress` is told the units done and in all. Raises StoreError only if the store cannot be reached.
    """
    chosen = store.experiments() if experiments is None else list(experiments)
    kinds = (*UNIT_KINDS, *ANALYSIS_SCHEMAS, "progress", "claims")
    listings = {
        experiment_id: {kind: store.objects.sizes(folder(kind, experiment_id)) for kind in kinds}
        for experiment_id in chosen
    }
    total = sum(len(listing["levels"]) for listing in listings.values())
    objects = size = done = 0
    findings: list[Finding] = []
    unlike: dict[str, str] = {}
    for experiment_id, listing in listings.items():
        objects += sum(len(keys) for keys in listing.values())
        findings += _described(store, experiment_id)
        places: dict[Place, str] = {}
        computed: list[pa.Table] = []
        twice: set[tuple[str, str]] = set()
        names = sorted(
            unit_name_of(key)
            for key in listing["levels"]
            if is_name(unit_name_of(key)) and key == levels_key(experiment_id, unit_name_of(key))
        )
        with ThreadPoolExecutor(READERS) as pool:
            for start in range(0, len(names), AHEAD):
                for content in pool.map(partial(_read, store, experiment_id), names[start : start + AHEAD]):
                    done += 1
                    size += content.bytes
                    findings += content.findings
                    if content.levels is not None and content.record is not None:
                        computed.append(content.levels.select(KIND_COLUMNS))
                        for place in _places(content.levels):
                            first = places.setdefault(place, content.record.unit.name)
                            if first != content.record.unit.name:
                                twice.add((first, content.record.unit.name))
                progress(done, total)
        findings += _extra(experiment_id, listing, set(names))
        for pair in sorted(twice):
            findings += _differences(store, experiment_id, *pair)
        findings += _analyses(store, experiment_id)
        findings += _pinned(store, experiment_id, computed)
        if computed and (line := kinds_line(pa.concat_tables(computed))):
            unlike[experiment_id] = line
        findings += _curated(store, experiment_id, places)
    return Verified(objects, size, tuple(findings), unlike)


def _described(store: Store, experiment_id: str) -> Iterator[Finding]:
    key = experiment_key(experiment_id)
    try:
        if not store.describe(experiment_id):
            yield Finding("missing", key, "nothing says what the experiment is; the next run writes it again")
        store.sweeps(experiment_id)
    except DamagedObject as error:
        yield Finding("damaged", error.key or key, str(error))
    except LthError as error:
        yield Finding("damaged", key, str(error))


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


def _read(store: Store, experiment_id: str, name: str) -> _Content:
    """A unit with everything that it recorded, each object held against its record and the others."""
    key = levels_key(experiment_id, name)
    data = store.read(key)
    if data is None:  # put aside since it was listed
        return _Content(None, None, {}, 0, ())
    try:
        levels, record = decode_levels(data, name)
    except DamagedObject as error:
        return _Content(None, None, {}, len(data), (Finding("damaged", key, str(error)),))
    findings: list[Finding] = []
    tables: dict[str, pa.Table] = {}
    size = len(data)
    for kind, expected in record.objects.items():
        found = store.read(expected.key)
        if found is None:
            if kind != "checkpoints":  # those are kept no longer than they are needed
                findings.append(Finding("missing", expected.key, f"unit {name} recorded it; its next run does it anew"))
            continue
        size += len(found)
        if hashlib.sha256(found).hexdigest() != expected.sha256:
            findings.append(Finding("damaged", expected.key, f"its bytes are not those that unit {name} recorded"))
            continue
        try:
            if kind == "checkpoints":
                checkpoints.decode(found)
            else:
                tables[kind] = parquet.decode(found, kind)[0]
        except DamagedObject as error:
            findings.append(Finding("damaged", expected.key, str(error)))
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


def _extra(experiment_id: str, listing: Mapping[str, Mapping[str, int]], units: set[str]) -> Iterator[Finding]:
    """Objects that belong to no committed unit."""
    for kind in UNIT_KINDS:
        for key in sorted(listing[kind]):
            name = unit_name_of(key)
            if not is_name(name) or key != unit_key(kind, experiment_id, name):
                yield Finding("extra", key, "its name is no unit's; nobody reads it")
            elif name not in units:
                yield Finding("extra", key, "its unit is not committed: a commit was cut short, or runs just now")
    for key in sorted(listing["progress"]):
        yield Finding(
            "extra",
            key,
            "a training in progress, or one that was cut short; the next run of the same cohorts goes on from it",
        )
    for key in sorted(listing["claims"]):
        yield Finding("extra", key, "of a sweep that runs, or was killed; nothing depends on it")


def _differences(store: Store, experiment_id: str, first: str, second: str) -> Iterator[Finding]:
    """Two units that hold the same trainings must say the same of them."""
    one, other = (_read(store, experiment_id, name) for name in (first, second))
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


def _analyses(store: Store, experiment_id: str) -> Iterator[Finding]:
    for kind in ANALYSIS_SCHEMAS:
        for key, reason in store.read_analysis(kind, experiment_id)[1].items():
            yield Finding("damaged", key, f"{reason}; it can be computed again")


def _curated(store: Store, experiment_id: str, landed: Mapping[Place, str]) -> Iterator[Finding]:
    """What is published must be what has landed."""
    curated = Curated(store)
    if curated.empty:
        return
    key = f"curated/levels/experiment_id={experiment_id}"
    levels = curated.read("levels", [experiment_id])
    published = list(_places(levels))
    if len(published) != len(set(published)):
        yield Finding(
            "contradictory",
            key,
            f"{len(published) - len(set(published))} trainings are published twice; remove curated/ and compact again",
        )
    gone = [place for place in published if place not in landed]
    if gone:
        yield Finding(
            "contradictory",
            key,
            f"{len(gone)} published trainings are in no committed unit any more, the "
            f"first is {gone[0]}; if they are to go, remove curated/ and compact again",
        )
    for unit, rows in _by_unit(levels, landed):
        content = _read(store, experiment_id, unit)
        if content.levels is None:
            continue
        seeds = pa.array(rows["seed"].to_pylist(), pa.int64())
        same = content.levels.filter(pc.is_in(content.levels["seed"], seeds))
        columns = result_columns("levels", same)
        if content_hash(same, columns) != content_hash(rows, columns):
            yield Finding(
                "contradictory",
                key,
                f"what is published of unit {unit} is not what has landed; remove curated/ and compact again",
            )
    for kind in ("metrics", "masks"):
        rows = curated.dataset(kind).to_table(
            list(ROW_KEYS["levels"]), filter=pc.field("experiment_id") == experiment_id
        )
        others = set(_places(rows.group_by(list(ROW_KEYS["levels"])).aggregate([]))) - set(published)
        if others:
            yield Finding(
                "contradictory",
                f"curated/{kind}/experiment_id={experiment_id}",
                f"it has rows of {len(others)} trainings that levels has not; remove curated/ and compact again",
            )


def _by_unit(levels: pa.Table, landed: Mapping[Place, str]) -> Iterable[tuple[str, pa.Table]]:
    units = pa.array([landed.get(place) for place in _places(levels)], pa.string())
    for unit in sorted(pc.unique(units.drop_null()).to_pylist()):
        yield unit, levels.filter(pc.equal(units, unit))


def _places(rows: pa.Table) -> Iterator[Place]:
    return zip(*(rows[name].to_pylist() for name in ROW_KEYS["levels"]), strict=True)
