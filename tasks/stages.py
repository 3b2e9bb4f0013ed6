"""The Prefect tasks of a sweep: prepare, prune, rewind, train, evaluate. Each submits one Ray task and waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import ray
from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from lth.errors import DamagedObject, NotDeterministic, StoreError
from lth.experiment import Experiment, format_seeds
from lth.store import Unit
from lth.sweep.connectivity import Connection, Measure
from lth.sweep.handover import Job
from lth.sweep.planning import Work
from lth.sweep.setup import DataFacts
from lth.sweep.stages import Evaluated
from tasks import remote
from tasks.cluster import Cluster, Share, StepCounter, WorkerLost

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Held:
    """Arrays of a finished stage, still on Ray, and the seconds that it took by purpose."""

    arrays: ray.ObjectRef[Any]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Prepared:
    """A data set that every worker can read, what is known of it, and of the GPU that it was read beside (0: none)."""

    facts: DataFacts
    fingerprint: str
    size: int
    gpu_memory: int
    data: ray.ObjectRef[Any]


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


def stage(function: Callable[P, R]) -> Task[P, R]:
    """A Prefect task for one stage: three retries with back-off, nothing cached, nothing persisted."""
    decorate = task(
        name=function.__name__,
        retries=3,
        retry_delay_seconds=exponential_backoff(backoff_factor=1),
        retry_jitter_factor=0.5,
        retry_condition_fn=_worth_retrying,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    return decorate(function)


def label(name: str, unit: Unit) -> str:
    """How a person reads a task in the graph: `train · level 3 · ticket · seeds 0-31`."""
    arm = unit.arm if not unit.draw else f"{unit.arm} (draw {unit.draw})"
    return f"{name} · level {unit.level} · {arm} · seeds {format_seeds(unit.seeds)}"


def _kind(name: str, unit: Unit) -> str:
    """How Ray's dashboard and metrics call a task. Ray keeps a few dozen kilobytes on every node for each name that it
    has ever seen, so that a name must not tell one unit of a large sweep from another."""
    return f"{name} · level {unit.level} · {unit.arm}"


def named(stage_task: Task[P, R], work: Work) -> Task[P, R]:
    """The same task under a readable name."""
    return stage_task.with_options(task_run_name=label(stage_task.name, work.unit))


def _run(cluster: Cluster, share: Share, name: str, function: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
    """(report, reference to the arrays) of a body."""
    report, arrays = cluster.submit(name, share, function, *arguments)
    return cluster.wait(report), arrays


@stage
def prepare(cluster: Cluster, share: Share, experiment: Experiment) -> Prepared:
    """Read and check the data set once."""
    known, loaded = _run(
        cluster,
        share,
        _prepare_label(experiment),
        remote.load,
        experiment.dataset,
        experiment.imports,
        share.gpus > 0,
    )
    facts, fingerprint, size, gpu_memory = known
    return Prepared(facts, fingerprint, size, gpu_memory, loaded)


@stage
def prune(cluster: Cluster, share: Share, job: Job, work: Work, data: ray.ObjectRef[Any]) -> Held:
    """Score the trained weights of the level before and remove the lowest."""
    seconds, arrays = _run(cluster, share, _kind("prune", work.unit), remote.prune, job, work, data)
    return Held(arrays, seconds)


@stage
def rewind(cluster: Cluster, share: Share, job: Job, work: Work, data: ray.ObjectRef[Any], pruned: Held | None) -> Held:
    """Put the masks together with the weights that training starts from again."""
    seconds, arrays = _run(
        cluster, share, _kind("rewind", work.unit), remote.rewind, job, work, data, pruned and pruned.arrays
    )
    return Held(arrays, seconds)


@stage
def train(
    cluster: Cluster, share: Share, job: Job, work: Work, ticket: Held, data: ray.ObjectRef[Any], counter: StepCounter
) -> Held:
    """Train the cohort."""
    seconds, arrays = _run(
        cluster, share, _kind("train", work.unit), remote.train, job, work, ticket.arrays, data, counter.actor
    )
    return Held(arrays, seconds)


@stage
def evaluate(
    cluster: Cluster,
    share: Share,
    job: Job,
    work: Work,
    ticket: Held | None,
    trained: Held | None,
    data: ray.ObjectRef[Any],
) -> Evaluated:
    """Evaluate on the test set and commit the unit to the store."""
    committed: Evaluated
    committed, _ = _run(
        cluster,
        share,
        _kind("evaluate", work.unit),
        remote.evaluate,
        job,
        work,
        ticket and ticket.arrays,
        trained and trained.arrays,
        data,
    )
    return committed


@stage
def connect(
    cluster: Cluster, share: Share, job: Job, connection: Connection, measure: Measure, data: ray.ObjectRef[Any]
) -> int:
    """Train copies of a seed from one step in other data orders, and measure the lines between them."""
    rows, _ = _run(cluster, share, _kind("connect", connection.unit), remote.connect, job, connection, measure, data)
    return int(rows)


def prepare_named(experiment: Experiment) -> Task[..., Prepared]:
    """`prepare` under a readable name."""
    return prepare.with_options(task_run_name=_prepare_label(experiment))


def _prepare_label(experiment: Experiment) -> str:
    return f"prepare · {experiment.dataset.name}"


def connection_named(connection: Connection) -> Task[..., int]:
    """`connect` under a readable name."""
    return connect.with_options(task_run_name=_connection_label(connection))


def _connection_label(connection: Connection) -> str:
    return f"{label('connect', connection.unit)} · from step {connection.step}"
