"""The Prefect tasks of a sweep: prepare, prune, rewind, train, evaluate. Each submits one Ray task and waits for it.

Prefect records what ran, when, and after what. Nothing passes through it: what a task works on, and what comes of it,
is bound to a `Run`, of which it does not know. An edge of its graph is the id of a task run that is named as one to
wait for, and that id is all that is kept of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import UUID

import ray
from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateDetails, TaskRun
from prefect.context import TaskRunContext
from prefect.states import Completed
from prefect.tasks import exponential_backoff

from lth.errors import DamagedObject, NotDeterministic, StoreError
from lth.experiment import Experiment, format_seeds
from lth.store import Unit
from lth.sweep.connectivity import Connection, Measure
from lth.sweep.handover import Job
from lth.sweep.planning import Work
from lth.sweep.stages import evaluate_unit, prune_unit, rewind_unit, train_unit
from lth.sweep.unit import StageFunction
from tasks import remote
from tasks.cluster import Cluster, Share, StepCounter, WorkerLost

R = TypeVar("R")


@dataclass(frozen=True)
class Held:
    """Arrays of a finished stage, still on Ray, and the seconds that it took by purpose."""

    result: ray.ObjectRef[Any]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Prepared:
    """A data set that every worker can read, and what is known of it and of the worker that read it."""

    read: remote.Read
    data: ray.ObjectRef[Any]


class Run(Generic[R]):
    """One run of a task: how a person reads it in the graph, what it does, and once it is done its id and result."""

    def __init__(self, name: str, body: Callable[[], R]) -> None:
        self.name = name
        self.body = body
        self.id: UUID
        self.result: R


def _worth_retrying(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Retry what another attempt can mend: a lost worker, a store out of reach. Never a mistake or a contradiction."""
    try:
        state.result()
    except (WorkerLost, ConnectionError, TimeoutError):
        return True
    except (DamagedObject, NotDeterministic):
        return False
    except StoreError:
        return True
    except BaseException:
        return False
    return False


RUN: ContextVar[Run[Any]] = ContextVar("run")
"""The run that a task is about to do. It is no argument of the task: the server's graph repeats the edges of a task run
for every argument that it has."""


def _name() -> str:
    return RUN.get().name


def _task(name: str) -> Task[[], None]:
    """A Prefect task that does RUN: three retries with back-off, nothing cached, nothing persisted."""

    def execute() -> None:
        context, run = TaskRunContext.get(), RUN.get()
        assert context is not None
        run.id = context.task_run.id
        run.result = run.body()

    execute.__name__ = execute.__qualname__ = name
    decorate = task(
        name=name,
        task_run_name=_name,
        retries=3,
        retry_delay_seconds=exponential_backoff(backoff_factor=1),
        retry_jitter_factor=0.5,
        retry_condition_fn=_worth_retrying,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    return decorate(execute)


PREPARE, CONNECT, COMMITTED = _task("prepare"), _task("connect"), _task("committed")
STAGES: dict[StageFunction, Task[[], None]] = {
    prune_unit: _task("prune"),
    rewind_unit: _task("rewind"),
    train_unit: _task("train"),
    evaluate_unit: _task("evaluate"),
}


def record(stage: Task[[], None], name: str, body: Callable[[], R], after: Iterable[UUID] = ()) -> tuple[R, UUID]:
    """Run `body` as a task run of that name, behind the task runs with the ids `after`: (its result, its id)."""
    run = Run(name, body)
    # Prefect asks a state that it waits for for its data; any will do.
    parents: list[State[Any]] = [
        Completed(data=True, state_details=StateDetails(task_run_id=parent)) for parent in after
    ]
    token = RUN.set(run)
    try:
        stage(wait_for=parents)
    finally:
        RUN.reset(token)
    return run.result, run.id


def label(name: str, unit: Unit) -> str:
    """How a person reads a task in the graph: `train · level 3 · ticket · seeds 0-31`."""
    arm = unit.arm if not unit.draw else f"{unit.arm} (draw {unit.draw})"
    return f"{name} · level {unit.level} · {arm} · seeds {format_seeds(unit.seeds)}"


def _kind(name: str, unit: Unit) -> str:
    """How Ray's dashboard and metrics call a task. Ray keeps a few dozen kilobytes on every node for each name that it
    has ever seen, so that a name must not tell one unit of a large sweep from another."""
    return f"{name} · level {unit.level} · {unit.arm}"


def _run(cluster: Cluster, share: Share, name: str, function: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
    """(report, reference to the arrays) of a body."""
    report, arrays = cluster.submit(name, share, function, *arguments)
    return cluster.wait(report), arrays


def prepare(cluster: Cluster, share: Share, experiment: Experiment, inspect: bool) -> tuple[Prepared, UUID]:
    """Read and check the data set once, and `inspect` the network on it if asked; and the id of the task run."""
    name, arguments = f"prepare · {experiment.dataset.name}", (experiment, share.gpus > 0, inspect)

    def read() -> Prepared:
        return Prepared(*_run(cluster, share, name, remote.load, *arguments))

    return record(PREPARE, name, read)


@dataclass
class UnitRuns:
    """The `call` of `run_unit` in the flow: a task run for each stage, behind those of the units that it reads from.

    `after`: ids of their task runs, by the stage that reads them. A unit that reads from none is behind `prepared`.
    `last` is the id of the newest task run, in the end that of the commit.
    """

    cluster: Cluster
    share: Share
    data: ray.ObjectRef[Any]
    counter: StepCounter
    after: Mapping[StageFunction, Sequence[UUID]]
    prepared: UUID
    last: UUID | None = None

    def __call__(self, stage: StageFunction, job: Job, work: Work, **handed: Any) -> Any:
        parents = [*([self.last] if self.last else []), *self.after.get(stage, ())]
        name, body = STAGES[stage].name, partial(self._on_ray, stage, job, work, handed)
        result, self.last = record(STAGES[stage], label(name, work.unit), body, parents or [self.prepared])
        return result

    def _on_ray(self, stage: StageFunction, job: Job, work: Work, handed: dict[str, Any]) -> Any:
        """What the stage hands on; what was `handed` to it lies on Ray, which resolves nothing within a dict."""
        report, arrays = _run(
            self.cluster,
            self.share,
            _kind(STAGES[stage].name, work.unit),
            remote.run_stage,
            stage,
            job,
            work,
            self.data,
            self.counter.actor,
            tuple(handed),
            *handed.values(),
        )
        return report if stage is evaluate_unit else Held(arrays, report)


def committed(unit: Unit, of: str, after: UUID) -> UUID:
    """A task run that stands in the graph for a unit that was committed before this run; `of` says by whom, if by
    another experiment."""
    name = label("committed", unit) + (f" · of {of}" if of else "")
    return record(COMMITTED, name, lambda: None, [after])[1]


def connect(
    cluster: Cluster,
    share: Share,
    job: Job,
    connection: Connection,
    measure: Measure,
    data: ray.ObjectRef[Any],
    after: list[UUID],
) -> int:
    """Train copies of a seed from one step in other data orders, and measure the lines between them; rows made.

    `after` are the task runs that stand for what it reads: its tickets, or else the data.
    """
    kind, name = _kind("connect", connection.unit), label("connect", connection.unit)
    body = partial(_run, cluster, share, kind, remote.connect, job, connection, measure, data)
    (rows, _), _ = record(CONNECT, f"{name} · from step {connection.step}", body, after)
    return int(rows)
