"""A sweep in this process, without Prefect or Ray: for a notebook, a bare GPU box, a test."""

from __future__ import annotations

from collections.abc import Sequence

from lth.data.examples import DataSet
from lth.experiment import Experiment
from lth.store import Store, unit_name_of
from lth.sweep import stages
from lth.sweep.handover import Job
from lth.sweep.planning import Done, Key, done_of, plan, work
from lth.sweep.record import code_version, record
from lth.sweep.setup import DataFacts
from lth.sweep.transfer import found_tickets


def run_here(
    experiment: Experiment,
    seeds: Sequence[int],
    store: Store,
    data: DataSet,
    *,
    device: str = "auto",
    cohort_size: int | None = None,
    threads: int = 1,
) -> dict[Key, Done]:
    """Run what is missing of a sweep, unit after unit, and return everything that is committed.

    Results are those of the flow, to the bit. Raises what the stages raise.
    """
    facts = DataFacts.of(data)
    found = found_tickets(store, experiment, seeds, facts)
    record(store, experiment, seeds, facts, data.fingerprint())
    job = Job(experiment, facts, store.url, device, threads, code_version())
    committed = store.committed(experiment.id)
    for key in committed.damaged:
        store.quarantine_unit(experiment.id, unit_name_of(key))
    done = done_of(experiment, seeds, store.committed(experiment.id) if committed.damaged else committed)
    for unit in plan(experiment, tuple(seeds), done, cohort_size or len(seeds)):
        todo = work(experiment, unit, done, found)
        ticket = trained = pruned = None
        if todo.seeds:
            if unit.arm == "ticket" and unit.level:
                pruned = stages.prune_unit(job, todo, data).result
            ticket = stages.rewind_unit(job, todo, data, pruned).result
            trained = stages.train_unit(job, todo, ticket, data).result
        finished = stages.evaluate_unit(job, todo, ticket, trained, data)
        done.update({(unit.arm, unit.draw, unit.level, seed): fact for seed, fact in finished.done.items()})
    return done
