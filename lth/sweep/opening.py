"""The one opening of a sweep: every check before anything trains, and what the store holds of it by then."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lth.engine import choose_device
from lth.errors import StoreError
from lth.experiment import Experiment
from lth.store import Committed, Store, Unit, unit_name_of
from lth.sweep.handover import Job
from lth.sweep.pins import pins_of
from lth.sweep.planning import DONE_COLUMNS, Done, Key, SourceTickets, Work, done_of, ready, work
from lth.sweep.record import record
from lth.sweep.setup import resolve
from lth.sweep.transfer import find_tickets

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """A sweep's experiment and store, the tickets that it takes over, and what is `done`, which grows as units end."""

    experiment: Experiment
    store: Store
    found: SourceTickets | None
    done: dict[Key, Done]

    def ready(self, unit: Unit) -> bool:
        """Whether everything that the unit needs is committed."""
        return ready(self.experiment, unit, self.done)

    def work(self, unit: Unit) -> Work:
        """The unit, which is `ready`, with the names of the units that it reads from."""
        return work(self.experiment, unit, self.done, self.found)

    def committed(self, unit: Unit) -> dict[int, Done] | None:
        """What the store holds by now of a unit that another sweep may have committed meanwhile; None: nothing."""
        levels = self.store.levels_of(self.experiment.id, unit.name)
        if levels is None:
            return None
        return {row["seed"]: Done.of(unit.name, row) for row in levels.select(DONE_COLUMNS).to_pylist()}

    def add(self, unit: Unit, done: dict[int, Done]) -> None:
        """Note that the unit is committed."""
        self.done.update({(unit.arm, unit.draw, unit.level, seed): fact for seed, fact in done.items()})


def open_sweep(
    store: Store, job: Job, seeds: Sequence[int], fingerprint: str, planned: bool = True, log: Log = LOG
) -> Opened:
    """Check store, experiment and data; write the experiment down, and the sweep if it is `planned`; set aside units
    of which an object is damaged.

    `fingerprint` is the data set's SHA-256. Raises InvalidExperiment for what cannot be trained on these data,
    LthError for other data, code or versions than the experiment began with, StoreError for a store that cannot be
    written to.
    """
    store.check_writable()
    experiment = job.experiment
    resolve(experiment, job.facts)
    found = find_tickets(store, experiment, seeds, job.facts)
    on_cpu = choose_device(job.device, experiment.training.precision).type == "cpu"
    pins = job.pins or pins_of(experiment)
    record(store, experiment, seeds if planned else None, job.facts, fingerprint, pins, on_cpu)
    committed = store.committed(experiment.id)
    if on_cpu and planned and (other := _other_threads(committed, job.threads)):
        log.warning("%s: the last bits of results depend on it", other)
    for damaged, reason in committed.damaged.items():
        log.warning("damaged object %s (%s): its unit is set aside and done again", damaged, reason)
        set_aside(store, experiment.id, damaged, log)
    if committed.damaged:
        committed = store.committed(experiment.id)
    return Opened(experiment, store, found, done_of(experiment, seeds, committed))


def _other_threads(committed: Committed, threads: int) -> str | None:
    """How many trainings had other threads, in words."""
    counts = Counter(committed.rows["threads"].to_pylist())
    others = [f"{count:,} with {other}" for other, count in sorted(counts.items()) if other != threads]
    if not others:
        return None
    return (
        f"this sweep trains with --threads {threads}, and of its committed trainings {', '.join(others)} were trained"
    )


def reopened(store: Store, job: Job, seeds: Sequence[int], committed: Committed) -> Opened:
    """A sweep as the store holds it, to repeat a part of it: nothing is checked or written."""
    found = find_tickets(store, job.experiment, seeds, job.facts)
    return Opened(job.experiment, store, found, done_of(job.experiment, seeds, committed))


def set_aside(store: Store, experiment_id: str, key: str, log: Log = LOG) -> None:
    """Put the unit that a damaged object belongs to out of the way."""
    try:
        store.quarantine_unit(experiment_id, unit_name_of(key))
    except StoreError as error:  # a stray file, whose name is no unit's: nothing of ours, and in nobody's way
        log.warning("%s is left where it is: %s", key, error)
