"""What Ray runs: the stages of `lth.sweep` over data that all workers of a machine share.

Every body returns a pair: a small report that the flow reads, and arrays that stay where they are until the next
stage needs them.
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from typing import Any

import torch

from lth.arms import Ticket
from lth.data import restore
from lth.data.arrays import Arrays as DataArrays
from lth.data.arrays import Description
from lth.data.examples import DataSet
from lth.engine import Trained
from lth.errors import LthError
from lth.experiment.spec import Dataset
from lth.registry import import_module
from lth.sweep import connectivity, stages
from lth.sweep.arrays import Arrays, from_arrays, to_arrays
from lth.sweep.connectivity import Connection, Measure
from lth.sweep.handover import Job, Masks
from lth.sweep.planning import Work
from lth.sweep.setup import DataFacts

Report = dict[str, float]


@dataclass(frozen=True)
class Loaded:
    """A data set in shared memory."""

    description: Description
    arrays: DataArrays

    def data(self) -> DataSet:
        """The data set over the shared memory, without a copy."""
        return restore(self.description, self.arrays)


def load(dataset: Dataset, imports: tuple[str, ...], on_gpu: bool) -> tuple[tuple[DataFacts, str, int, int], Loaded]:
    """Read and check a data set once: (facts, fingerprint, bytes, bytes of the GPU's memory), and it for every worker.

    `imports` are the user's modules, one of which may register it. Raises LthError if there is to be a GPU, but none.
    """
    memory = _gpu_memory() if on_gpu else 0
    for module in imports:
        import_module(module, "imports")
    data = dataset.load()
    description, arrays = data.to_arrays()
    size = sum(array.nbytes for array in arrays.values())
    return (DataFacts.of(data), data.fingerprint(), size, memory), Loaded(description, arrays)


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


def prune(job: Job, work: Work, loaded: Loaded) -> tuple[Report, Arrays]:
    """Masks from the trained weights of the level before."""
    return _pair(stages.prune_unit(job, work, loaded.data()))


def rewind(job: Job, work: Work, loaded: Loaded, pruned: Arrays | None) -> tuple[Report, Arrays]:
    """Masks and starting weights of the unit's arm."""
    return _pair(stages.rewind_unit(job, work, loaded.data(), from_arrays(Masks, pruned) if pruned else None))


def train(job: Job, work: Work, ticket: Arrays, loaded: Loaded, counter: Any) -> tuple[Report, Arrays]:
    """Train the cohort, telling the counter as it goes."""
    reporter = StepReporter(counter)
    stage = stages.train_unit(job, work, from_arrays(Ticket, ticket), loaded.data(), reporter)
    reporter.flush()
    return _pair(stage)


def evaluate(
    job: Job, work: Work, ticket: Arrays | None, trained: Arrays | None, loaded: Loaded
) -> tuple[stages.Evaluated, None]:
    """Evaluate on the test set and commit the unit."""
    return stages.evaluate_unit(
        job, work, None, from_arrays(Trained, trained) if trained else None, loaded.data()
    ), None


def connect(job: Job, connection: Connection, measure: Measure, loaded: Loaded) -> tuple[int, None]:
    """Measure the connectivity of one piece of work into the store; how many rows it made."""
    rows = connectivity.connect(job, connection, measure, loaded.data())
    job.store.put_analysis("connectivity", job.experiment.id, rows)
    return rows.num_rows, None


def _pair(stage: stages.Stage[Any]) -> tuple[Report, Arrays]:
    return stage.seconds, to_arrays(stage.result)
