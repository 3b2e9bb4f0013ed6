"""What Ray runs: the stages of `lth.sweep` over data that all workers of a machine share.

Every body returns a pair: a small report that the flow reads, and arrays that stay where they are until the next
stage needs them.
"""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from lth.arms import Ticket
from lth.data import restore
from lth.data.arrays import Arrays as DataArrays
from lth.data.arrays import Description
from lth.data.examples import DataSet
from lth.engine import Trained, choose_device
from lth.errors import LthError
from lth.experiment import Experiment
from lth.processor import instructions, other_instructions
from lth.sweep import connectivity, stages
from lth.sweep.arrays import from_arrays, to_arrays
from lth.sweep.connectivity import Connection, Measure
from lth.sweep.handover import Job, Masks
from lth.sweep.inspecting import inspected
from lth.sweep.pins import pins_of
from lth.sweep.planning import Work
from lth.sweep.setup import DataFacts
from lth.sweep.unit import StageFunction
from lth.trust import run_code_of


@dataclass(frozen=True)
class Loaded:
    """A data set in shared memory."""

    description: Description
    arrays: DataArrays

    def data(self) -> DataSet:
        """The data set over the shared memory, without a copy."""
        return restore(self.description, self.arrays)


@dataclass(frozen=True)
class Read:
    """What is known of a data set that a worker has read, of that worker's GPU (bytes; 0: none), and of its CPU:
    the instructions that torch uses, and why they are others than it would by itself."""

    facts: DataFacts
    fingerprint: str
    size: int
    gpu_memory: int
    instructions: str
    other_instructions: str | None


def load(experiment: Experiment, on_gpu: bool, inspect: bool) -> tuple[Read, Loaded]:
    """Read and check a data set once, for every worker.

    With `inspect` the network is tried on it. Raises LthError if there is to be a GPU, but none, InvalidExperiment for
    a network that cannot be trained.
    """
    memory = _gpu_memory() if on_gpu else 0
    run_code_of(experiment.imports)
    data = experiment.dataset.load()
    if inspect:
        inspected(experiment, data, "cuda" if on_gpu else "cpu")
    description, arrays = data.to_arrays()
    size = sum(array.nbytes for array in arrays.values())
    read = Read(DataFacts.of(data), data.fingerprint(), size, memory, instructions(), other_instructions())
    return read, Loaded(description, arrays)


_CHECKED: set[str] = set()
"""Sweeps for which this process has what they were opened with."""


def check_pins(job: Job) -> None:
    """Raises LthError, in one line, where this worker's code, versions or instructions are not those that the sweep was
    opened with."""
    if job.pins is None or (key := f"{job.experiment.model_dump_json()} {job.pins}") in _CHECKED:
        return
    on_cpu = choose_device(job.device, job.experiment.training.precision).type == "cpu"
    if differences := pins_of(job.experiment).differences(asdict(job.pins), on_cpu):
        raise LthError(
            f"the worker on {platform.node()} has something else than the process that opened the sweep: "
            f"{'; '.join(differences)}; give every machine the same code, versions and settings"
        )
    _CHECKED.add(key)


def _gpu_memory() -> int:
    """Bytes of the GPU that Ray gave to this worker."""
    if not torch.cuda.is_available():
        raise LthError(
            f"Ray offers a GPU on {platform.node()}, but torch {torch.__version__} sees none there; install "
            "a CUDA build and its driver on that machine, or use --device cpu"
        )
    return int(torch.cuda.get_device_properties(0).total_memory)


class StepReporter:
    """Counts seed-steps and sends them to the flow's `StepCounter` at most once a second; `actor` is its actor."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.steps = 0
        self.sent = time.monotonic()

    def __call__(self, steps: int) -> None:
        self.steps += steps
        if time.monotonic() - self.sent > 1:
            self.flush()

    def flush(self) -> None:
        """Send what is left."""
        self.actor.add.remote(self.steps)
        self.steps, self.sent = 0, time.monotonic()


HANDED: dict[str, type] = {"pruned": Masks, "ticket": Ticket, "trained": Trained}
"""What stages hand on, by the name under which the next takes it."""


def run_stage(
    stage: StageFunction, job: Job, work: Work, loaded: Loaded, counter: Any, names: tuple[str, ...], *handed: Any
) -> tuple[Any, Any]:
    """A stage of a unit, with what the stages before it `handed` on under `names`; training tells the counter as it
    goes. The report is the seconds by purpose, or of the last stage what it has committed."""
    run_code_of(job.experiment.imports, job.experiment.model.name)
    given: dict[str, Any] = {
        name: None if arrays is None else from_arrays(HANDED[name], arrays)
        for name, arrays in zip(names, handed, strict=True)
    }
    check_pins(job)
    reporter = StepReporter(counter)
    if stage is stages.train_unit:
        given["on_progress"] = reporter
    finished = stage(job, work, data=loaded.data(), **given)
    if stage is stages.train_unit:
        reporter.flush()
    if isinstance(finished, stages.Evaluated):
        return finished, None
    return finished.seconds, to_arrays(finished.result)


def connect(job: Job, connection: Connection, measure: Measure, loaded: Loaded) -> tuple[int, None]:
    """Measure the connectivity of one piece of work into the store; how many rows it made."""
    run_code_of(job.experiment.imports, job.experiment.model.name)
    check_pins(job)
    rows = connectivity.connect(job, connection, measure, loaded.data())
    job.store.put_analysis("connectivity", job.experiment.id, rows)
    return rows.num_rows, None
