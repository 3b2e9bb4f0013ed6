"""The store: where experiments keep their results, whatever holds the objects."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lth.errors import DamagedObject, LthError
from lth.store import analyses, checkpoints, commits, reader
from lth.store.claims import Claims
from lth.store.description import read_description
from lth.store.location import parse_location
from lth.store.objects import Objects, Retries
from lth.store.reader import Committed
from lth.store.records import decode_levels
from lth.store.seals import YAML, sealed_report
from lth.store.unit import (
    Unit,
    checkpoint_key,
    experiment_key,
    folder,
    is_name,
    levels_key,
    pins_folder,
    pins_key,
    progress_folder,
    progress_key,
    report_key,
    sweep_key,
    sweeps_folder,
    ticket_key,
    unit_name_of,
)

if TYPE_CHECKING:
    import torch


class Store:
    """A store at any fsspec URL: `file:///…`, a path, `s3://bucket/prefix`, `memory://name`.

    Settings of S3 come from the environment when the store is first used (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    AWS_ENDPOINT_URL, AWS_REGION, …). A store is its URL: it can be pickled, and opens its connections anew in every
    process. Threads may share one. Every method raises StoreError, in one line, if the store cannot do what is asked.
    """

    def __init__(self, url: str | os.PathLike[str], retries: Retries | None = None) -> None:
        self.objects = Objects(parse_location(os.fspath(url)), retries or Retries())

    @property
    def url(self) -> str:
        """The URL, with an absolute path and nothing secret: `Store(store.url)` is the same store anywhere."""
        return self.objects.location.url

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.url, self.objects.retries)

    # Any object

    def check_writable(self) -> None:
        """Writes and removes a probe. StoreError says what is missing: the bucket, rights, the server, or its honouring
        of create-only writes. Answers within seconds."""
        self.objects.check_writable()

    def create(self, key: str, data: bytes) -> bool:
        """Writes `data` as `key` unless that exists. True: we wrote it, even if the server's reply was lost. False:
        something else lies there."""
        return self.objects.create(key, data)

    def read(self, key: str) -> bytes | None:
        """The object's content, or None if there is none."""
        return self.objects.read(key)

    # Units

    def commit(
        self,
        experiment_id: str,
        unit: Unit,
        levels: pa.Table,
        metrics: pa.Table,
        masks: pa.Table,
        checkpoint: Mapping[str, torch.Tensor] | None = None,
    ) -> bool:
        """Writes a unit's tables (columns of LEVELS, METRICS, MASKS) and checkpoint (tensors `[S, …]`, S the unit's
        seeds); `levels` last, so that the unit is committed whole or not at all.

        True: we committed it. False: it was committed already with the same results. Raises NotDeterministic if it was
        with others, StoreError if rows do not belong to the unit. Damaged leftovers go into quarantine.
        """
        return commits.commit(self.objects, experiment_id, unit, levels, metrics, masks, checkpoint)

    def levels_of(self, experiment_id: str, unit_name: str) -> pa.Table | None:
        """The LEVELS rows of one unit; None if it is not committed, or damaged."""
        data = self.objects.read(levels_key(experiment_id, unit_name))
        try:
            return None if data is None else decode_levels(data, unit_name)[0]
        except DamagedObject:
            return None

    def committed(self, experiment_id: str, without: Collection[str] = ()) -> Committed:
        """What is committed, each (arm, draw, level, seed) once, and what is damaged; reads every `levels` object but
        those of the units named `without`.

        A unit whose metrics or masks are missing or of another size than recorded is not committed.
        """
        return reader.committed(self.objects, experiment_id, without)

    def quarantine_unit(self, experiment_id: str, unit_name: str) -> list[str]:
        """Moves the unit's objects to `quarantine/…`, `levels` first, so that the unit can be computed anew; returns
        their new keys. Objects that are missing are passed over."""
        return commits.quarantine_unit(self.objects, experiment_id, unit_name)

    def seeds_of(self, experiment_id: str, unit_name: str) -> tuple[int, ...]:
        """The seeds of a committed unit, in the order of its checkpoint's leading axis; DamagedObject if there is no
        such unit."""
        return reader.read_record(self.objects, experiment_id, unit_name).seeds

    def read_table(self, results: Committed, kind: str) -> tuple[pa.Table, dict[str, str]]:
        """The rows of `metrics` or `masks` of the committed units, each (arm, draw, level, seed) from the unit that
        counts for it, and the damaged objects among them: key -> what is wrong."""
        return reader.read_table(self.objects, results, kind)

    def read_masks(self, experiment_id: str, where: Mapping[int, str]) -> dict[str, np.ndarray]:
        """The masks of seeds of one arm and level, as boolean arrays `[S, *shape]` by tensor, True = kept.

        `where` gives for each seed the unit that holds it; S is in its order. DamagedObject names the object that is
        missing, or that does not match the unit's record or its own checksums.
        """
        return reader.read_masks(self.objects, experiment_id, where)

    # Analyses

    def put_analysis(self, kind: str, experiment_id: str, table: pa.Table) -> str:
        """Writes rows of `layers`, `overlap` or `connectivity`; returns the object's key, the same for the same rows.
        Raises StoreError if they do not fit the table's columns or belong to another experiment."""
        return analyses.put(self.objects, kind, experiment_id, table)

    def read_analysis(self, kind: str, experiment_id: str) -> tuple[pa.Table, dict[str, str]]:
        """All rows of that analysis, each once, and the damaged objects among them: key -> what is wrong."""
        return analyses.read(self.objects, kind, experiment_id)

    # Checkpoints

    def read_checkpoint(self, experiment_id: str, unit_name: str) -> dict[str, torch.Tensor]:
        """The checkpoint's tensors `[S, …]` on the CPU, S as in `seeds_of`; DamagedObject if it is missing or does not
        match the checksum that it carries."""
        return reader.read_checkpoint(self.objects, experiment_id, unit_name)

    def delete_checkpoint(self, experiment_id: str, unit_name: str) -> None:
        """Removes the checkpoint; one that is missing is fine. The unit stays committed."""
        self.objects.delete(checkpoint_key(experiment_id, unit_name))

    # Trainings in progress

    def put_progress(
        self, experiment_id: str, unit: Unit, part: Unit, state: Mapping[str, torch.Tensor], origin: str
    ) -> None:
        """Writes the state of the training of a part of a unit, over an earlier one; `origin` says what it began from
        and on what. It is tried once: a later one replaces it anyway."""
        tried_once = copy.copy(self.objects)
        tried_once.retries = Retries(tries=1)
        tried_once.replace(
            progress_key(experiment_id, unit.name, part.name), checkpoints.encode_progress(state, origin)
        )

    def read_progress(self, experiment_id: str, unit: Unit, part: Unit, origin: str) -> dict[str, torch.Tensor] | None:
        """The state that was written last, on the CPU; None if there is none of that origin, or it is damaged."""
        data = self.objects.read(progress_key(experiment_id, unit.name, part.name))
        try:
            state, stored_origin = ({}, None) if data is None else checkpoints.decode_progress(data)
        except DamagedObject:
            return None
        return state if stored_origin == origin else None

    def units_in_progress(self, experiment_id: str) -> set[str]:
        """The names of units whose trainings were saved before they were committed."""
        return {key.split("/")[-2] for key in self.objects.sizes(folder("progress", experiment_id))}

    def parts_in_progress(self, experiment_id: str, unit: Unit) -> set[str]:
        """The names of the parts of a unit of which there is a state."""
        return set(map(unit_name_of, self.objects.sizes(progress_folder(experiment_id, unit.name))))

    def forget_progress(self, experiment_id: str, unit: Unit) -> None:
        """Removes the states of the unit's trainings."""
        for name in self.parts_in_progress(experiment_id, unit):
            self.objects.delete(progress_key(experiment_id, unit.name, name))

    def claims(self, experiment_id: str) -> Claims:
        """The claims of a sweep of that experiment, to be made on units of it."""
        return Claims(self.objects, experiment_id)

    # Exported tickets

    def put_ticket(self, data: bytes) -> str:
        """Writes an exported ticket, unless it is there already; returns its SHA-256 (hex), which is its name."""
        name = hashlib.sha256(data).hexdigest()
        self.objects.create(ticket_key(name), data)
        return name

    def read_ticket(self, sha256: str) -> bytes | None:
        """The exported ticket of that SHA-256; None if there is none. DamagedObject if it is not what its name says."""
        data = self.objects.read(ticket_key(sha256))
        if data is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise reader.damaged_object(self.objects, ticket_key(sha256), "its bytes are not those of its name")
        return data

    # Experiments, sweeps, reports

    def put_experiment(self, experiment_id: str, text: str) -> str:
        """Writes `experiment.yaml`, sealed, unless it exists; returns the text that lies there, ours or the earlier
        one."""
        if self.objects.create(experiment_key(experiment_id), YAML.seal(text.encode())):
            return text
        earlier = self.get_experiment(experiment_id)
        return text if earlier is None else earlier

    def get_experiment(self, experiment_id: str) -> str | None:
        """The text of `experiment.yaml`, or None if there is no such experiment. DamagedObject if it is not what was
        written; what was written before texts were sealed is believed."""
        key = experiment_key(experiment_id)
        data = self.objects.read(key)
        if data is None:
            return None
        try:
            return YAML.open(data)[0].decode()
        except (DamagedObject, UnicodeDecodeError) as error:
            why = str(error) if isinstance(error, DamagedObject) else "it is no text"
            raise DamagedObject(
                f"{key} in {self.url} is damaged: {why}; put back what was written, or remove it: the next run writes "
                "it again",
                key,
            ) from error

    def describe(self, experiment_id: str) -> dict[str, Any]:
        """The content of `experiment.yaml`: the experiment, its margin, its data's SHA-256 and where it first ran;
        empty if there is none. Raises LthError if it is damaged, or describes an experiment of another id."""
        text = self.get_experiment(experiment_id)
        if text is None:
            return {}
        try:
            return read_description(text, experiment_id)
        except ValueError as error:
            raise LthError(
                f"{experiment_key(experiment_id)} in {self.url} is damaged: {error}; remove it, the next run writes it "
                "again"
            ) from None

    def experiments(self) -> list[str]:
        """The ids of all experiments that are described here or have a unit, sorted."""
        having_units = (name.removeprefix("experiment=") for name in self.objects.folders("levels"))
        return sorted(name for name in {*self.objects.folders("experiments"), *having_units} if is_name(name))

    def put_sweep(self, experiment_id: str, record: Mapping[str, Any]) -> str:
        """Writes a sweep's record as JSON, once; returns its name, 8 hex digits of its content."""
        data = json.dumps(record, sort_keys=True, indent=2, allow_nan=False).encode()
        name = hashlib.sha256(data).hexdigest()[:8]
        key = sweep_key(experiment_id, name)
        if not self.objects.create(key, data) and self.objects.read(key) != data:
            raise reader.damaged_object(self.objects, key, "it is not the record that its name says")
        return name

    def put_pins(self, experiment_id: str, pins: Mapping[str, Any]) -> str:
        """Writes what decides an experiment's results beside its id as JSON, once; returns its name, 8 hex digits of
        its content. What a later sweep brings along is a record of its own."""
        data = json.dumps(pins, sort_keys=True, indent=2, allow_nan=False).encode()
        name = hashlib.sha256(data).hexdigest()[:8]
        key = pins_key(experiment_id, name)
        if not self.objects.create(key, data) and self.objects.read(key) != data:
            raise reader.damaged_object(self.objects, key, "it is not the record that its name says")
        return name

    def pins(self, experiment_id: str) -> list[dict[str, Any]]:
        """Those records, in the order of their names; none of an experiment that was begun before there were any.
        DamagedObject names one that is not what its name says."""
        found = []
        for key in sorted(self.objects.sizes(pins_folder(experiment_id))):
            data = self.objects.read(key)
            if data is None:
                continue
            if hashlib.sha256(data).hexdigest()[:8] != unit_name_of(key):
                raise reader.damaged_object(self.objects, key, "it is not the record that its name says")
            found.append(dict(json.loads(data)))
        return found

    def sweeps(self, experiment_id: str) -> list[dict[str, Any]]:
        """The records of all sweeps of the experiment, in the order of their names. DamagedObject names one that is
        not what its name says."""
        keys = sorted(self.objects.sizes(sweeps_folder(experiment_id)))
        return [record for record in map(self.read_sweep, keys) if record is not None]

    def read_sweep(self, key: str) -> dict[str, Any] | None:
        """The record of one sweep by its key, which names its hash; None: it is gone. DamagedObject as `sweeps`."""
        data = self.objects.read(key)
        if data is None:
            return None
        try:
            content = json.loads(data)
        except ValueError as error:
            raise reader.damaged_object(self.objects, key, "it is no JSON") from error
        if hashlib.sha256(data).hexdigest()[:8] != unit_name_of(key) or not isinstance(content, dict):
            raise reader.damaged_object(self.objects, key, "it is not the record that its name says")
        return content

    def put_report(self, experiment_id: str, name: str, data: bytes) -> str:
        """Writes a file of the report, over an earlier one; `name` may hold folders. Returns its URL."""
        self.objects.replace(report_key(experiment_id, name), sealed_report(name, data))
        return self.report_url(experiment_id, name)

    def report_url(self, experiment_id: str, name: str) -> str:
        """Where that file of the report lies."""
        return f"{self.url}/{report_key(experiment_id, name)}"
