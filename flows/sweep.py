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
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any

from prefect import flow
from prefect.context import FlowRunContext

from flows.artifacts import Publisher
from flows.progress import Notice, Phase, Planned, Steps, UnitChanged, tell
from flows.session import DEFAULT_STORE, Session
from lth.errors import DamagedObject, LthError
from lth.experiment import Execution, Experiment, format_seeds, parse_seeds
from lth.report.score_texts import ScoreText
from lth.store import Owner, Store, Unit
from lth.sweep.estimate import steps_to_train
from lth.sweep.planning import DONE_COLUMNS, Done, plan, planned_count, ready, work
from tasks import stages
from tasks.cluster import Cluster, StepCounter, Stopped, WorkerLost, connected, stopped_by_signals


@dataclass
class Seconds:
    """Where the wall time of a sweep went. Stage times are divided by the slots that ran them side by side."""

    wall: float = 0.0
    start: float = 0.0
    slots: int = 1
    stages: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def split(self) -> dict[str, float]:
        """Seconds by purpose; `orchestration` is what is left: waiting, scheduling, handing over."""
        parts = {name: spent / self.slots for name, spent in self.stages.items()}
        rest = max(self.wall - self.start - sum(parts.values()), 0.0)
        return {"start": self.start, **parts, "orchestration": rest, "wall": self.wall}


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


ASK_AGAIN = 2.0
"""Seconds after which a unit that another sweep is at is asked for again."""


class Elsewhere(Exception):
    """Another sweep is at the unit."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(str(owner))
        self.owner = owner


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
        self.told: set[tuple[str, int, int]] = set()
        self.claims = store.claims(experiment.id)
        self.ask_again_at: dict[Unit, float] = {}
        self.owners_told: set[Owner] = set()
        self.publisher = Publisher(experiment, seeds)

    def run(self, begun: float) -> Outcome:
        """Prepare, run all missing units, and say what came of it."""
        with connected(self.execution.cores) as cluster, stopped_by_signals(cluster):
            tell(Phase("reading the data and the store"))
            slots = self.connect(cluster)
            warm = cluster.warm(self.share, slots) if cluster.local else []
            try:
                self.prepare(cluster)
                for reference in warm:
                    cluster.wait(reference)
            except Stopped:
                raise KeyboardInterrupt from None
            before = len(self.done)
            size = self.choose_cohort_size(cluster)
            slots = cluster.slots(self.share)
            self.job = replace(self.job, slots=max(slots, 1))
            units = plan(self.experiment, self.seeds, self.done, size)
            planned = planned_count(self.experiment, len(self.seeds))
            steps = sum(len(unit.seeds) * steps_to_train(self.job.setup, self.experiment, unit) for unit in units)
            resumed = len(self.store.units_in_progress(self.experiment.id) & {unit.name for unit in units})
            tell(Planned(planned, before, len(units), slots, steps, resumed))
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
            self.publisher.finish(planned, len(self.done), self.store)
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
            committed=len(self.done) - before,
            diverged=sum(done.diverged for done in self.done.values()),
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
                    now = time.monotonic()
                    able = (
                        unit
                        for unit in waiting
                        if self.ask_again_at.get(unit, 0.0) <= now and ready(self.experiment, unit, self.done)
                    )
                    for unit in list(islice(able, free)):
                        waiting.remove(unit)
                        context = contextvars.copy_context()
                        running[pool.submit(context.run, self._run_unit, cluster, unit)] = unit
                    if running:
                        finished, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
                    elif self.ask_again_at:
                        finished = set()
                        cluster.stopping.wait(ASK_AGAIN / 4)
                    else:
                        break  # what still waits needs a unit that failed
                    tell(Steps(self.counter.total()))
                    self.publisher.advance(self.planned, len(self.done))
                    if cluster.stopping.is_set():
                        raise KeyboardInterrupt
                    for future in finished:
                        unit, error = running.pop(future), future.exception()
                        if isinstance(error, Elsewhere):
                            self._leave(unit, error.owner)
                            waiting.append(unit)  # behind those that nobody is known to be at
                        else:
                            self.ask_again_at.pop(unit, None)
                            self._finish(unit, error)
            except BaseException:
                cluster.stopping.set()
                raise

    def _leave(self, unit: Unit, owner: Owner) -> None:
        """The unit is left to another sweep for now; that this happens is said once."""
        pause = ASK_AGAIN * min(max(1.0, len(self.ask_again_at) / 16), 10.0)  # never long enough to seem not to look
        self.ask_again_at[unit] = time.monotonic() + pause
        if owner not in self.owners_told:
            self.owners_told.add(owner)
            text = (
                f"another sweep of this experiment, {owner}, is at some of the units: they are left to it; should "
                "it hang, end it and they are done here"
            )
            self.log.info(text)
            tell(Notice(text))

    def _finish(self, unit: Unit, error: BaseException | None) -> None:
        if error is None:
            self.completed += 1
            tell(UnitChanged(unit, "committed"))
            found = [self.done.get((unit.arm, unit.draw, unit.level, seed)) for seed in self.seeds]
            if all(found) and (unit.arm, unit.draw, unit.level) not in self.told:
                self.told.add((unit.arm, unit.draw, unit.level))  # the last two cohorts may end at the same moment
                self.log.info(level_line(unit, [done for done in found if done]))
            return
        if isinstance(error, (KeyboardInterrupt, Stopped)):
            raise KeyboardInterrupt
        if isinstance(error, DamagedObject) and f"/experiment={self.experiment.id}/" in (error.key or ""):
            self.set_aside(str(error.key))
            error = LthError(f"{error.key} was damaged and has been set aside; run again, and its unit is done anew")
        reason = f"{unit.name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        self.failed.append(reason)
        self.log.error("unit failed: %s", reason)
        tell(UnitChanged(unit, "failed", reason))

    def _run_unit(self, cluster: Cluster, unit: Unit) -> None:
        """One unit, stage after stage; once more from its beginning if arrays between stages were lost with a node.

        Raises Elsewhere while another sweep is at it; what another has committed meanwhile is taken over.
        """
        owner = self.claims.take(unit.name)
        if owner is not None:
            raise Elsewhere(owner)
        try:
            try:
                committed = self._attempt(cluster, unit)
            except WorkerLost:
                self.load(cluster)
                committed = self._attempt(cluster, unit)
        finally:
            if not cluster.stopping.is_set():  # or else the end of this sweep gives back all of them
                self.claims.give_back(unit.name)
        for seed, done in committed.items():
            self.done[unit.arm, unit.draw, unit.level, seed] = done
        _forget_past_results()

    def _attempt(self, cluster: Cluster, unit: Unit) -> dict[int, Done]:
        """What the store holds of the unit by now; else all its stages."""
        levels = self.store.levels_of(self.experiment.id, unit.name)
        if levels is not None:
            return {row["seed"]: Done.of(unit.name, row) for row in levels.select(DONE_COLUMNS).to_pylist()}
        tell(UnitChanged(unit, "started"))
        return self._stages(cluster, unit)

    def _stages(self, cluster: Cluster, unit: Unit) -> dict[int, Done]:
        todo = work(self.experiment, unit, self.done, self.found)
        shared = (cluster, self.share, self.job, todo)
        ticket = trained = pruned = None
        if todo.seeds:
            if unit.arm == "ticket" and unit.level > 0:
                pruned = stages.named(stages.prune, todo)(*shared, self.prepared.data)
            ticket = stages.named(stages.rewind, todo)(*shared, self.prepared.data, pruned)
            trained = stages.named(stages.train, todo)(*shared, ticket, self.prepared.data, self.counter)
        committed = stages.named(stages.evaluate, todo)(*shared, ticket, trained, self.prepared.data)
        with self.lock:
            for part in (pruned, ticket, trained, committed):
                for purpose, spent in (part.seconds if part else {}).items():
                    self.seconds.stages[purpose] += spent
        return committed.done


def level_line(unit: Unit, found: Sequence[Done]) -> str:
    """A level that is complete for all seeds, as a sentence of the log."""
    arm = "dense" if unit.level == 0 else f"{unit.arm}.{unit.draw}" if unit.draw else unit.arm
    diverged = sum(done.diverged for done in found)
    ending = f", {diverged} diverged" if diverged else ""
    values = [done.reached for done in found if done.reached is not None and not done.diverged]
    if not values:
        return f"level {unit.level} · {arm}: no seed finished{ending}"
    reached = ScoreText.named(found[0].score).over_seeds(values)
    densities = [100 * done.density for done in found if done.density is not None]
    kept = f"{sum(densities) / len(densities):.3g}% of the weights, " if densities else ""
    return f"level {unit.level} · {arm}: {kept}test {reached} (n = {len(values)}{ending})"


def _forget_past_results() -> None:
    """Drop what Prefect remembers of results that are gone: it keeps a state for each until the flow ends."""
    context = FlowRunContext.get()
    if context is not None:
        for key, (_, _, reference) in list(context.run_results.items()):
            if reference is None or reference() is None:
                context.run_results.pop(key, None)
