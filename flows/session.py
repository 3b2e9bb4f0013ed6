"""What every flow over an experiment begins with: its share of a machine, its data, and what the store holds."""

from __future__ import annotations

import logging
from dataclasses import replace
from uuid import UUID

import ray
from prefect.logging import get_run_logger

from lth.errors import LthError
from lth.experiment import Execution, Experiment
from lth.store import Store
from lth.sweep.cohort_size import bytes_on_gpu, choose_cohort_size, shares_of_gpu
from lth.sweep.handover import Job
from lth.sweep.inspecting import was_inspected
from lth.sweep.networks import network_of
from lth.sweep.opening import Opened, open_sweep
from lth.sweep.pins import pins_of
from lth.sweep.record import code_version
from lth.trust import run_code_of
from tasks import stages
from tasks.cluster import Cluster, Share

DEFAULT_STORE = "./lth-store"


class Session:
    """An experiment, its seeds and store, on a cluster. `connect` first, then `prepare`."""

    share: Share
    job: Job
    prepared: stages.Prepared
    prepared_by: UUID
    """The task run that read the data."""
    opened: Opened

    def __init__(self, experiment: Experiment, seeds: tuple[int, ...], store: Store, execution: Execution) -> None:
        self.experiment = experiment
        self.seeds = seeds
        self.store = store
        self.execution = execution
        self.log = get_run_logger()
        run_code_of(experiment.imports, experiment.model.name)
        logging.getLogger("prefect.task_runs").setLevel(logging.WARNING)  # their routine lines drown the run's own

    def connect(self, cluster: Cluster) -> int:
        """Choose the share of a machine that one unit takes, and say how many such units fit side by side."""
        self.share = self._share_of(cluster)
        return self._slots(cluster)

    def _share_of(self, cluster: Cluster) -> Share:
        gpus = ray.cluster_resources().get("GPU", 0)
        if self.execution.device == "cuda" and not gpus:
            raise LthError("device 'cuda' was asked for, but Ray has no GPU; use --device cpu or a cluster with GPUs")
        on_gpu = bool(gpus) and self.execution.device != "cpu"
        if self.experiment.training.precision == "tf32" and not on_gpu:
            raise LthError("training.precision 'tf32' exists on CUDA devices only; use float32 on a CPU")
        return Share(self.execution.threads, (self.execution.gpu_share or 1.0) if on_gpu else 0)

    def _slots(self, cluster: Cluster) -> int:
        """How many units fit side by side; refuses a share that no node has room for, for which Ray would wait."""
        slots = cluster.slots(self.share)
        if slots < 1:
            gpu = f" and {self.share.gpus:g} of a GPU" if self.share.gpus else ""
            raise LthError(
                f"a unit needs {self.share.cpus} cores{gpu} on one machine, but Ray has no machine with "
                "that much; lower --threads, raise --cores, or add nodes"
            )
        return slots

    def choose_cohort_size(self, cluster: Cluster, copies: int = 1) -> int:
        """Seeds a unit, of `copies` networks each. Where no part of a GPU was asked for, the unit's is chosen here.

        A larger cohort uses a GPU better than more cohorts do: so first the cohort, then what else has room beside it.
        """
        setup = self.job.setup
        width = setup.network.layout.width * copies
        floats = setup.network.activation_floats * setup.recipe.batch_size if self.share.gpus else 0
        size = self.execution.cohort_size or choose_cohort_size(len(self.seeds), self._slots(cluster), width, floats)
        if self.share.gpus and self.execution.gpu_share is None:
            memory = self.prepared.read.gpu_memory
            needed = bytes_on_gpu(min(size, len(self.seeds)), width, floats, self.prepared.read.size)
            cohorts = shares_of_gpu(memory, needed, cluster.cores_per_gpu() // self.share.cpus)
            self.share = replace(self.share, gpus=1 / cohorts)
            self.log.info(
                "a unit needs about %.1f GB of a GPU's %.1f GB: %s",
                needed / 1e9,
                memory / 1e9,
                f"up to {cohorts} share one" if cohorts > 1 else "it has one to itself",
            )
        return size

    def prepare(self, cluster: Cluster, sweep: bool = True) -> None:
        """Check store, data and experiment; find out what is committed; set aside what is damaged.

        A `sweep` is written down as planned.
        """
        self.store.check_writable()  # before the data are read, which may take long
        self.load(cluster, inspect=sweep and not was_inspected(self.experiment))
        read = self.prepared.read
        facts = read.facts
        if read.other_instructions and not self.share.gpus:
            self.log.warning("on a worker %s", read.other_instructions)
        device = "cuda" if self.share.gpus else "cpu"
        self.job = Job(
            self.experiment,
            read.facts,
            self.store.url,
            device,
            self.execution.threads,
            code_version(),
            self.execution.save_every or None,
            sketch=network_of(self.experiment, facts).sketch,
            pins=replace(pins_of(self.experiment), instructions=read.instructions),
        )
        self.opened = open_sweep(self.store, self.job, self.seeds, read.fingerprint, planned=sweep, log=self.log)

    def load(self, cluster: Cluster, inspect: bool = False) -> None:
        """Read the data onto Ray; once more where the node that held it is gone."""
        self.prepared, self.prepared_by = stages.prepare(cluster, self.share, self.experiment, inspect)
