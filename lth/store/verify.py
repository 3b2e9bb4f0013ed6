"""Re-reading a store: every object that is damaged, missing, extra, or says something else than another.

Whatever lies in the store, it is named and the reading goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from lth.errors import DamagedObject, LthError, StoreError
from lth.store import checkpoints, claims, parquet
from lth.store.content import content_hash
from lth.store.findings import LARGEST_TABLE, Finding, Reading, places_of, read_object
from lth.store.masks import mask_sha256, unpack
from lth.store.origin_columns import KIND_COLUMNS, differing_origins, kinds_line
from lth.store.reader import READERS, Place
from lth.store.records import UnitRecord, decode_levels
from lth.store.remote_files import LARGEST_PUT
from lth.store.schemas import ANALYSIS_SCHEMAS, result_columns
from lth.store.seals import YAML, check_report
from lth.store.store import Store
from lth.store.unit import (
    UNIT_KINDS,
    experiment_key,
    folder,
    is_key,
    is_name,
    levels_key,
    sweeps_folder,
    ticket_key,
    unit_key,
    unit_name_of,
)
from lth.store.verify_curated import check_curated
from lth.store.verify_pins import pins_findings

__all__ = ["Finding", "Verified", "verify"]

AHEAD = 4 * READERS
"""Units that are read ahead: they bound the memory."""


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


def verify(
    store: Store, experiments: Sequence[str] | None = None, progress: Callable[[int, int], None] = lambda *_: None
) -> Verified:
    """Read every object of some experiments, or of all, and hold each against what others say of it.

    `progress` is told the units done and in all. Raises StoreError only if the store cannot be reached.
    """
    chosen = store.experiments() if experiments is None else list(experiments)
    reading = Reading(store)
    listings = {
        experiment_id: {kind: reading.listing(folder(kind, experiment_id)) for kind in (*UNIT_KINDS, *ANALYSIS_SCHEMAS)}
        for experiment_id in chosen
    }
    total, done = sum(len(listing["levels"] or ()) for listing in listings.values()), 0
    placed: dict[str, dict[Place, str]] = {}
    kinds: dict[str, str] = {}
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
                        for place in places_of(content.levels):
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
                reading.check(
                    key, size, partial(_check_table, kind, experiment_id), "it can be computed again", LARGEST_TABLE
                )
        reading.findings += pins_findings(store, experiment_id, computed)
        if computed and (line := kinds_line(pa.concat_tables(computed))):
            kinds[experiment_id] = line
        _beside(reading, experiment_id)
    if experiments is None:
        _tickets(reading)
    check_curated(reading, placed)
    return Verified(reading.objects, reading.size, tuple(reading.findings), tuple(_notes(reading)), kinds)


def _check_table(kind: str, experiment_id: str, data: bytes) -> None:
    table, _ = parquet.decode(data, kind)
    parquet.check_experiment(table, experiment_id)


def _check_progress(data: bytes) -> None:
    checkpoints.decode_progress(data)


def _notes(reading: Reading) -> Iterator[str]:
    if reading.unsealed:
        many = len(reading.unsealed)
        yield (
            "not sealed (written before records, reports and curated tables were), so that what changed in them does "
            f"not show: {many} object{'s' * (many > 1)}: " + ", ".join(reading.unsealed[:3] + ["..."] * (many > 3))
        )
    if reading.unlisted:
        yield f"{reading.unlisted} curated files that are listed no more; a compaction removes them after a day"
    if reading.ended_claims:
        yield f"{reading.ended_claims} claims of sweeps that have ended; `lth clean` removes them"


def _described(reading: Reading, experiment_id: str) -> None:
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


def _beside(reading: Reading, experiment_id: str) -> None:
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


def _check_report(reading: Reading, key: str, data: bytes) -> None:
    if check_report(key, data) == "unsealed":
        reading.unsealed.append(key)


def _tickets(reading: Reading) -> None:
    for key, size in (reading.listing("tickets") or {}).items():

        def check(data: bytes, key: str = key) -> None:
            if key != ticket_key(hashlib.sha256(data).hexdigest()):
                raise DamagedObject("its bytes are not those of its name")

        reading.check(key, size, check, "export it again")


def _read(store: Store, experiment_id: str, sizes: Mapping[str, int], name: str) -> _Content:
    """A unit with everything that it recorded, each object held against its record and the others."""
    key = levels_key(experiment_id, name)
    try:
        data = read_object(store, key, sizes.get(key, 0), LARGEST_TABLE)
        if data is None:  # put aside since it was listed
            return _Content(None, None, {}, 0, ())
        levels, record = decode_levels(data, name)
        parquet.check_experiment(levels, experiment_id)
    except DamagedObject as error:
        return _Content(None, None, {}, 0, (Finding("damaged", key, str(error)),))
    findings: list[Finding] = []
    tables: dict[str, pa.Table] = {}
    size = len(data)
    for kind, expected in record.objects.items():
        try:
            if sizes.get(expected.key, expected.bytes) != expected.bytes:
                raise DamagedObject(f"it has {sizes[expected.key]:,} bytes; unit {name} recorded {expected.bytes:,}")
            found = read_object(store, expected.key, expected.bytes, LARGEST_PUT)
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
