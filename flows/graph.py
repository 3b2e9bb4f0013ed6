"""Which task run of this flow stands for which unit: what the edges between units in Prefect's graph are made of."""

from __future__ import annotations

import threading
from collections.abc import Callable
from uuid import UUID

from lth.store import Unit
from lth.sweep.opening import Opened
from lth.sweep.planning import Done, Key, Work
from lth.sweep.unit import StageFunction, sources
from tasks import stages


class Graph:
    """Of every unit the id of the task run that committed it, and nothing else: it may be one of many thousands.

    A unit that was committed before this run has none. The first time that something is built on it, a task run
    `committed` is recorded in its place, so that a run that goes on shows what it goes on from.
    """

    def __init__(self, opened: Opened, prepared: Callable[[], UUID]) -> None:
        """`prepared` says which task run read the data last."""
        self._opened = opened
        self._prepared = prepared
        self._runs: dict[tuple[str, str], UUID] = {}
        self._lock = threading.Lock()

    def add(self, unit: Unit, run: UUID | None) -> None:
        """The unit was committed by that task run."""
        if run is not None:
            self._runs[self._opened.experiment.id, unit.name] = run

    def sources(self, work: Work) -> dict[StageFunction, list[UUID]]:
        """The task runs of the units that a unit reads from, by the stage that reads them first."""
        return {
            stage: [self._run_of(*source) for source in read]
            for stage, read in sources(self._opened.experiment, work).items()
        }

    def _run_of(self, experiment_id: str, name: str) -> UUID:
        with self._lock:
            run = self._runs.get((experiment_id, name))
            if run is None:
                ours = experiment_id == self._opened.experiment.id
                unit = _unit(name, self._opened.done if ours else self._found())
                run = stages.committed(unit, "" if ours else experiment_id, self._prepared())
                self._runs[experiment_id, name] = run
            return run

    def _found(self) -> dict[Key, Done]:
        return dict(self._opened.found.tickets) if self._opened.found else {}


def _unit(name: str, done: dict[Key, Done]) -> Unit:
    """The unit of that name, with those of its seeds that the sweep knows."""
    keys = [key for key, fact in list(done.items()) if fact.unit == name]
    arm, draw, level, _ = keys[0]
    return Unit(arm, draw, level, tuple(sorted(seed for *_, seed in keys)))
