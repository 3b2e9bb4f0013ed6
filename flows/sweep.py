"""The flow `sweep`: plan, submit, wait, report. It reads like the algorithm box of a paper.

    for level 0, 1, ...:  prune the ticket of the level before; rewind; train; evaluate; commit
                          and, beside it, every control cut after the ticket of that level

Units are planned from what the store holds, seed by seed; nothing else is asked. At most as many units are in flight
as Ray has room for (on a cluster twice as many), so the flow's memory does not grow with the sweep. A unit that another
sweep of the same experiment is at waits until that one has committed it, or is gone.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

from prefect import flow

from flows.artifacts import Publisher
from flows.graph import Graph
from flows.session import DEFAULT_STORE, Session
from lth.errors import DamagedObject, LthError
from lth.experiment import Execution, Experiment, format_seeds, parse_seeds
from lth.report.score_texts import ScoreText
from lth.store import Store, Unit
from lth.sweep.claimed_units import ASK_AGAIN, ClaimedElsewhere, UnitsElsewhere
from lth.sweep.estimate import steps_to_train
from lth.sweep.opening import set_aside
from lth.sweep.planning import Done, plan, planned_count
from lth.sweep.progress import Phase, Planned, Steps, UnitChanged, emit
from lth.sweep.seconds import Seconds
from lth.sweep.unit import run_unit
from tasks import stages
from tasks.cluster import Cluster, StepCounter, Stopped, WorkerLost, connected, stopped_by_signals


@dataclass(frozen=True)
class Outcome:
    """What a sweep did: counts are trainings, i.e. (arm, draw, level, seed)."""

    experiment_id: str
    store: str
    planned: int
    committed_before: int
    committed: int
    diverged: int
    seconds: dict[str, float]
    slots: int


class SweepFailed(LthError):
    """Some units could not be completed; what does not depend on them is committed."""


def run_name() -> str:
    """A run is named after what it does."""
    from prefect.runtime import flow_run

    parameters = flow_run.parameters
    experiment = parameters.get("experiment")
    name = experiment.id if isinstance(experiment, Experiment) else dict(experiment or {}).get("name", "sweep")
    return f"{name} · seeds {parameters.get('seeds', '0-4')}"


@flow(name="sweep", flow_run_name=run_name, validate_parameters=True, persist_result=False)
def sweep(
    experiment: Experiment, seeds: str = "0-4", store: str = DEFAULT_STORE, execution: Execution | None = None
) -> dict[str, Any]:
    """Find lottery tickets: every level and arm of `experiment` for every seed, into `store`.

    Args:
        experiment: What is trained, pruned, rewound and compared.
        seeds: Replicates, as `0-4` or `0,3,10-12`.
        store: Where results go: a folder, `file://...` or `s3://bucket/prefix`.
        execution: Device, threads and cohort size; never part of a result.
    """
    begun = time.perf_counter()
    return asdict(Sweep(experiment, parse_seeds(seeds), Store(store), execution or Execution()).run(begun))


class Sweep(Session):
    """One run of the flow: what is done, what is in flight, what comes next."""

    def __init__(self, experiment: Experiment, seeds: tuple[int, ...], store: Store, execution: Execution) -> None:
        super().__init__(experiment, seeds, store, execution)
        self.failed: list[str] = []
        self.completed = 0
        self.seconds = Seconds()
        self.lock = threading.Lock()
        self.planned = 0
        self.logged: set[tuple[str, int, int]] = set()
        self.claims = store.claims(experiment.id)
        self.elsewhere = UnitsElsewhere(self.log)
        self.publisher = Publisher(experiment, seeds)

    def run(self, begun: float) -> Outcome:
        """Prepare, run all missing units, and say what came of it."""
        with connected(self.execution.cores) as cluster, stopped_by_signals(cluster):
            emit(Phase("reading the data and the store"))
            slots = self.connect(cluster)
            warm = cluster.warm(self.share, slots) if cluster.local else []
            try:
                self.prepare(cluster)
                self.graph = Graph(self.opened, lambda: self.prepared_by)
                for reference in warm:
                    cluster.wait(reference)
            except Stopped:
                raise KeyboardInterrupt from None
            before = len(self.opened.done)
            size = self.choose_cohort_size(cluster)
            slots = cluster.slots(self.share)
            self.job = replace(self.job, slots=max(slots, 1))
            units = plan(self.experiment, self.seeds, self.opened.done, size)
            planned = planned_count(self.experiment, len(self.seeds))
            steps = sum(len(unit.seeds) * steps_to_train(self.job.setup, self.experiment, unit) for unit in units)
            resumed = len(self.store.units_in_progress(self.experiment.id) & {unit.name for unit in units})
            emit(Planned(planned, before, len(units), slots, steps, resumed))
            self.log.info(
                "%s: seeds %s, levels 0-%d, arms %s",
                self.experiment.id,
                format_seeds(self.seeds),
                self.experiment.pruning.levels,
                ", ".join(arm.name for arm in self.experiment.arms),
            )
            self.log.info(
                "%d trainings planned, %d of them committed already; %d units of up to %d seeds to run, %d at a time%s",
                planned,
                before,
                len(units),
                size,
                slots,
                f"; {resumed} go on from where they were saved" if resumed else "",
            )
            self.planned = planned
            self.publisher.begin(planned, before)
            self.seconds.slots = slots
            self.seconds.start = time.perf_counter() - begun
            try:
                with self.claims:
                    self._run_units(cluster, units)
            except BaseException:
                self.publisher.stop()
                raise
            self.seconds.wall = time.perf_counter() - begun
            self.publisher.finish(planned, len(self.opened.done), self.store)
        if self.failed:
            unrun = len(units) - self.completed - len(self.failed)
            rest = f", {unrun} more were not run because they need one that failed" if unrun else ""
            raise SweepFailed(
                f"{len(self.failed)} of {len(units)} units failed{rest}; {self.completed} are committed. "
                f"The first failure: {self.failed[0]}"
            )
        return Outcome(
            experiment_id=self.experiment.id,
            store=self.store.url,
            planned=planned,
            committed_before=before,
            committed=len(self.opened.done) - before,
            diverged=sum(done.diverged for done in self.opened.done.values()),
            seconds=self.seconds.split(),
            slots=slots,
        )

    def _run_units(self, cluster: Cluster, units: list[Unit]) -> None:
        """Keep every slot busy with the first unit whose needs are committed, until none is left."""
        waiting = list(units)
        running: dict[Future[None], Unit] = {}
        self.counter = StepCounter()
        with ThreadPoolExecutor(max_workers=4096, thread_name_prefix="unit") as pool:
            try:
                while waiting or running:
                    slots = max(cluster.slots(self.share), 1)
                    self.seconds.slots = max(self.seconds.slots, slots)
                    # On a cluster twice as many wait at Ray's door: an autoscaler adds machines for what waits there.
                    free = max(slots * (2 if cluster.shared else 1) - len(running), 0)
                    able = (unit for unit in waiting if self.elsewhere.may_ask(unit) and self.opened.ready(unit))
                    for unit in list(islice(able, free)):
                        waiting.remove(unit)
                        context = contextvars.copy_context()
                        running[pool.submit(context.run, self._run_unit, cluster, unit)] = unit
                    if running:
                        finished, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
                    elif self.elsewhere:
                        finished = set()
                        cluster.stopping.wait(ASK_AGAIN / 4)
                    else:
                        break  # what still waits needs a unit that failed
                    emit(Steps(self.counter.total()))
                    self.publisher.advance(self.planned, len(self.opened.done))
                    if cluster.stopping.is_set():
                        raise KeyboardInterrupt
                    for future in finished:
                        unit, error = running.pop(future), future.exception()
                        if isinstance(error, ClaimedElsewhere):
                            self.elsewhere.leave(unit, error.owner)
                            waiting.append(unit)  # behind those that nobody is known to be at
                        else:
                            self.elsewhere.end(unit)
                            self._finish(unit, error)
            except BaseException:
                cluster.stopping.set()
                raise

    def _finish(self, unit: Unit, error: BaseException | None) -> None:
        if error is None:
            self.completed += 1
            emit(UnitChanged(unit, "committed"))
            facts = [self.opened.done.get((unit.arm, unit.draw, unit.level, seed)) for seed in self.seeds]
            if all(facts) and (unit.arm, unit.draw, unit.level) not in self.logged:
                self.logged.add((unit.arm, unit.draw, unit.level))  # the last two cohorts may end at the same moment
                self.log.info(level_line(unit, [done for done in facts if done]))
            return
        if isinstance(error, (KeyboardInterrupt, Stopped)):
            raise KeyboardInterrupt
        if isinstance(error, DamagedObject) and f"/experiment={self.experiment.id}/" in (error.key or ""):
            set_aside(self.store, self.experiment.id, str(error.key), self.log)
            error = LthError(f"{error.key} was damaged and has been set aside; run again, and its unit is done anew")
        reason = f"{unit.name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        self.failed.append(reason)
        self.log.error("unit failed: %s", reason)
        emit(UnitChanged(unit, "failed", reason))

    def _run_unit(self, cluster: Cluster, unit: Unit) -> None:
        """One unit, stage after stage; once more from its beginning if arrays between stages were lost with a node.

        Raises ClaimedElsewhere while another sweep is at it; what another has committed meanwhile is taken over.
        """
        owner = self.claims.take(unit.name)
        if owner is not None:
            raise ClaimedElsewhere(owner)
        try:
            try:
                committed = self._attempt(cluster, unit)
            except WorkerLost:
                self.load(cluster)
                committed = self._attempt(cluster, unit)
        finally:
            if not cluster.stopping.is_set():  # or else the end of this sweep gives back all of them
                self.claims.give_back(unit.name)
        self.opened.add(unit, committed)

    def _attempt(self, cluster: Cluster, unit: Unit) -> dict[int, Done]:
        """What the store holds of the unit by now; else all its stages."""
        committed = self.opened.committed(unit)
        if committed is not None:
            return committed
        emit(UnitChanged(unit, "started"))
        work = self.opened.work(unit)
        calls = stages.UnitRuns(
            cluster, self.share, self.prepared.data, self.counter, self.graph.sources(work), self.prepared_by
        )
        finished = run_unit(self.job, work, calls)
        self.graph.add(unit, calls.last)
        with self.lock:
            self.seconds.add(finished.seconds)
        return finished.done


def level_line(unit: Unit, facts: Sequence[Done]) -> str:
    """A level that is complete for all seeds, as a sentence of the log."""
    arm = "dense" if unit.level == 0 else f"{unit.arm}.{unit.draw}" if unit.draw else unit.arm
    diverged = sum(done.diverged for done in facts)
    ending = f", {diverged} diverged" if diverged else ""
    values = [done.reached for done in facts if done.reached is not None and not done.diverged]
    if not values:
        return f"level {unit.level} · {arm}: no seed finished{ending}"
    reached = ScoreText.named(facts[0].score).over_seeds(values)
    densities = [100 * done.density for done in facts if done.density is not None]
    kept = f"{sum(densities) / len(densities):.3g}% of the weights, " if densities else ""
    return f"level {unit.level} · {arm}: {kept}test {reached} (n = {len(values)}{ending})"
