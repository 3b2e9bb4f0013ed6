"""A sweep in this process, without Prefect or Ray: for a notebook, a bare GPU box, a test.

One unit after another: a process of its own for each would need scripts that guard their main module, and would take
longer to start than small units take to train. `lth run` uses every core and machine that there is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from lth.data.examples import DataSet
from lth.engine import choose_device
from lth.errors import DamagedObject, InvalidExperiment, LthError
from lth.experiment import Execution, Experiment
from lth.processor import other_instructions
from lth.store import Store, Unit
from lth.store.claims import Claims
from lth.sweep.claimed_units import ASK_AGAIN, UnitsElsewhere
from lth.sweep.cohort_size import choose_cohort_size
from lth.sweep.estimate import steps_to_train
from lth.sweep.handover import Job
from lth.sweep.inspecting import inspected
from lth.sweep.opening import LOG, Opened, open_sweep, set_aside
from lth.sweep.planning import Done, Key, Work, plan, planned_count
from lth.sweep.progress import Phase, Planned, Steps, UnitChanged, emit
from lth.sweep.record import code_version
from lth.sweep.seconds import Seconds
from lth.sweep.setup import DataFacts, resolve
from lth.sweep.stages import train_unit
from lth.sweep.unit import StageFunction, run_unit
from lth.trust import run_code_of


def sweep_here(
    experiment: Experiment, seeds: Sequence[int], store: Store, execution: Execution, seconds: Seconds | None = None
) -> dict[Key, Done]:
    """`run_here` on the experiment's own data, with cohorts as large as memory allows."""
    begun, seconds = time.perf_counter(), seconds or Seconds()
    if execution.gpu_share is not None or execution.cores is not None:
        raise InvalidExperiment(
            "cores and gpu_share are Ray's, which has no part in a sweep in this process; leave them out, or run it "
            "with Ray: `lth run` without --here"
        )
    run_code_of(experiment.imports, experiment.model.name)
    device = choose_device(execution.device, experiment.training.precision)
    emit(Phase(f"reading the data set {experiment.dataset.name}"))
    data = experiment.dataset.load()
    setup = resolve(experiment, DataFacts.of(data))
    floats = setup.network.activation_floats * setup.recipe.batch_size if device.type == "cuda" else 0
    seconds.start += time.perf_counter() - begun
    seconds.wall += seconds.start
    return run_here(
        experiment,
        seeds,
        store,
        data,
        device=execution.device,
        cohort_size=execution.cohort_size or choose_cohort_size(len(seeds), 1, setup.network.layout.width, floats),
        threads=execution.threads,
        save_every=execution.save_every or None,
        seconds=seconds,
    )


def run_here(
    experiment: Experiment,
    seeds: Sequence[int],
    store: Store,
    data: DataSet,
    *,
    device: str = "auto",
    cohort_size: int | None = None,
    threads: int = 1,
    save_every: float | None = None,
    seconds: Seconds | None = None,
) -> dict[Key, Done]:
    """Run what is missing of a sweep, unit after unit, and return everything that is committed.

    Results are those of the flow, to the bit on a CPU. `save_every`: seconds between saves of a training in progress,
    at most; None: none are made. Where the time went is added to `seconds`. Units that another sweep of the experiment
    is at are left to it. Raises what the stages raise; what was committed before stays.
    """
    run_code_of(experiment.imports, experiment.model.name)
    begun, seconds = time.perf_counter(), seconds or Seconds()
    emit(Phase("reading the store"))
    job = Job(experiment, DataFacts.of(data), store.url, device, threads, code_version(), save_every)
    inspected(experiment, data, choose_device(device, experiment.training.precision))
    if said := other_instructions():
        LOG.warning("%s", said)
    sweep = open_sweep(store, job, seeds, data.fingerprint())
    units = plan(experiment, seeds, sweep.done, cohort_size or len(seeds))
    steps = sum(len(unit.seeds) * steps_to_train(job.setup, experiment, unit) for unit in units)
    resumed = len(store.units_in_progress(experiment.id) & {unit.name for unit in units})
    emit(Planned(planned_count(experiment, len(seeds)), len(sweep.done), len(units), 1, steps, resumed))
    seconds.start += time.perf_counter() - begun
    try:
        with store.claims(experiment.id) as claims:
            _Units(job, sweep, data, claims, seconds).run(units)
    finally:
        seconds.wall += time.perf_counter() - begun
    return sweep.done


class _Units:
    """Runs units in turn, each as soon as what it needs is committed."""

    def __init__(self, job: Job, sweep: Opened, data: DataSet, claims: Claims, seconds: Seconds) -> None:
        self.job = job
        self.sweep = sweep
        self.data = data
        self.claims = claims
        self.seconds = seconds
        self.elsewhere = UnitsElsewhere(LOG)
        self.trained = 0

    def run(self, units: Sequence[Unit]) -> None:
        waiting = list(units)
        while waiting:
            unit = next((one for one in waiting if self.elsewhere.may_ask(one) and self.sweep.ready(one)), None)
            if unit is None:  # all that is left is another sweep's, or needs what is
                time.sleep(ASK_AGAIN / 4)
                continue
            waiting.remove(unit)
            owner = self.claims.take(unit.name)
            if owner is not None:
                self.elsewhere.leave(unit, owner)
                waiting.append(unit)
                continue
            try:
                self.sweep.add(unit, self.sweep.committed(unit) or self._run(unit))
            finally:
                self.claims.give_back(unit.name)
            self.elsewhere.end(unit)
            emit(UnitChanged(unit, "committed"))

    def _run(self, unit: Unit) -> dict[int, Done]:
        emit(UnitChanged(unit, "started"))
        try:
            finished = run_unit(self.job, self.sweep.work(unit), self._call)
        except DamagedObject as error:
            if f"/experiment={self.job.experiment.id}/" not in (error.key or ""):
                raise
            set_aside(self.sweep.store, self.job.experiment.id, str(error.key))
            raise LthError(
                f"{error.key} was damaged and has been set aside; run again, and its unit is done anew"
            ) from error
        self.seconds.add(finished.seconds)
        return finished.done

    def _call(self, stage: StageFunction, job: Job, work: Work, **handed: Any) -> Any:
        if stage is train_unit:
            handed["on_progress"] = self._count
        return stage(job, work, data=self.data, **handed)

    def _count(self, steps: int) -> None:
        self.trained += steps
        emit(Steps(self.trained))
