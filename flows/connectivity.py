"""The flow `connectivity`: copies of every seed in other data orders, and what lies on the line between them."""

from __future__ import annotations

import contextvars
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Literal
from uuid import UUID

from prefect import flow

from flows.session import DEFAULT_STORE, Session
from lth.experiment import Execution, Experiment, parse_seeds
from lth.store import Store, Unit
from lth.sweep.connectivity import Connection, Measure, missing
from lth.sweep.progress import Phase, emit
from tasks import stages
from tasks.cluster import Cluster, Stopped, connected, stopped_by_signals


def run_name() -> str:
    """A run is named after what it does."""
    from prefect.runtime import flow_run

    experiment = flow_run.parameters.get("experiment")
    name = experiment.id if isinstance(experiment, Experiment) else dict(experiment or {}).get("name", "experiment")
    return f"connectivity of {name} · seeds {flow_run.parameters.get('seeds', '0-2')}"


@flow(name="connectivity", flow_run_name=run_name, validate_parameters=True, persist_result=False)
def connectivity(
    experiment: Experiment,
    seeds: str = "0-2",
    store: str = DEFAULT_STORE,
    levels: list[int] | None = None,
    arms: list[str] | None = None,
    steps: list[str] | None = None,
    copies: int = 3,
    points: int = 30,
    batch_norm: Literal["recompute", "interpolate"] = "recompute",
    splits: list[Literal["train", "test"]] | None = None,
    execution: Execution | None = None,
) -> int:
    """Linear mode connectivity (Frankle et al. 2020) into the table `connectivity`; returns the rows that were added.

    Args:
        experiment: Whose networks; masks of levels above 0 must be committed.
        seeds: Replicates, as `0-2`.
        store: Where the experiment's results are.
        levels: Pruning levels; level 0 is the dense network.
        arms: Arms of the experiment.
        steps: Steps of the dense training from which copies part, e.g. `0it` and `500it`.
        copies: Copies of every seed, each with its own data order; every pair makes a path.
        points: Points on a path, ends included.
        batch_norm: Statistics on the path: measured anew, or interpolated like weights.
        splits: Where errors are measured.
        execution: Device, threads and cohort size.
    """
    measure = Measure(copies, points, batch_norm, tuple(splits or ["test"]))
    session = Session(experiment, parse_seeds(seeds), Store(store), execution or Execution())
    with connected(session.execution.cores) as cluster, stopped_by_signals(cluster):
        emit(Phase("reading the data and the store"))
        session.connect(cluster)
        try:
            session.prepare(cluster, sweep=False)
            size = session.choose_cohort_size(cluster, copies + 1)
            slots = cluster.slots(session.share)
            todo = missing(
                session.job, session.seeds, levels or [0], arms or ["ticket"], steps or ["0it"], measure, size
            )
            session.log.info("%s: %d pieces of work on %d slots", experiment.id, len(todo), slots)
            return _run(session, cluster, todo, measure, slots)
        except Stopped:
            raise KeyboardInterrupt from None


def _tickets_of(session: Session, todo: list[Connection]) -> dict[str, UUID]:
    """Of every unit whose masks are read a task run that stands for it in the graph, by the unit's name."""
    seeds: dict[str, list[int]] = {}
    levels: dict[str, int] = {}
    for connection in todo:
        for seed, name in connection.masks_from.items():
            levels[name] = connection.unit.level
            if seed not in seeds.setdefault(name, []):
                seeds[name].append(seed)
    return {
        name: stages.committed(Unit("ticket", 0, levels[name], tuple(sorted(read))), "", session.prepared_by)
        for name, read in seeds.items()
    }


def _run(session: Session, cluster: Cluster, todo: list[Connection], measure: Measure, slots: int) -> int:
    rows, tickets = 0, _tickets_of(session, todo)
    with ThreadPoolExecutor(max(slots, 1), thread_name_prefix="connect") as pool:
        futures = [
            pool.submit(
                contextvars.copy_context().run,
                stages.connect,
                cluster,
                session.share,
                session.job,
                connection,
                measure,
                session.prepared.data,
                [tickets[name] for name in dict.fromkeys(connection.masks_from.values())] or [session.prepared_by],
            )
            for connection in todo
        ]
        try:
            for number, future in enumerate(as_completed(futures), 1):
                rows += future.result()
                emit(Phase(f"{number} of {len(todo)} pieces of work done"))
        except BaseException:
            cluster.stopping.set()
            for future in futures:
                future.cancel()
            raise
    return rows
