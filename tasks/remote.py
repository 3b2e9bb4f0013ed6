"""What Ray runs: the stages of `lth.sweep` over data that all workers of a machine share.

Every body returns a pair: a small report that the flow reads, and arrays that stay where they are until the next
stage needs them.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

import torch

from lth.data import ImageData, only_images, restore
from lth.data.arrays import Arrays as DataArrays
from lth.data.arrays import Description
from lth.errors import LthError
from lth.experiment.spec import Dataset
from lth.registry import import_module
from lth.sweep import connectivity, stages
from lth.sweep.connectivity import Connection, Measure
from lth.sweep.handover import Arrays, Job
from lth.sweep.planning import Work
from lth.sweep.setup import DataFacts
from tasks.cluster import StepReporter

Report = dict[str, float]


@dataclass(frozen=True)
class Loaded:
    """A data set in shared memory."""

    description: Description
    arrays: DataArrays

    def images(self) -> ImageData:
        """The data set over the shared memory, without a copy."""
        return only_images(restore(self.description, self.arrays))


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


def prune(job: Job, work: Work, loaded: Loaded) -> tuple[Report, Arrays]:
    """Masks from the trained weights of the level before."""
    return _pair(stages.prune_unit(job, work, loaded.images()))


def rewind(job: Job, work: Work, loaded: Loaded, pruned: Arrays | None) -> tuple[Report, Arrays]:
    """Masks and starting weights of the unit's arm."""
    return _pair(stages.rewind_unit(job, work, loaded.images(), pruned))


def train(job: Job, work: Work, ticket: Arrays, loaded: Loaded, counter: Any) -> tuple[Report, Arrays]:
    """Train the cohort, telling the counter as it goes."""
    reporter = StepReporter(counter)
    stage = stages.train_unit(job, work, ticket, loaded.images(), reporter)
    reporter.flush()
    return _pair(stage)


def evaluate(
    job: Job, work: Work, ticket: Arrays | None, trained: Arrays | None, loaded: Loaded
) -> tuple[stages.Evaluated, None]:
    """Evaluate on the test set and commit the unit."""
    return stages.evaluate_unit(job, work, ticket, trained, loaded.images()), None


def connect(job: Job, connection: Connection, measure: Measure, loaded: Loaded) -> tuple[int, None]:
    """Measure the connectivity of one piece of work into the store; how many rows it made."""
    rows = connectivity.connect(job, connection, measure, loaded.images())
    job.store.put_analysis("connectivity", job.experiment.id, rows)
    return rows.num_rows, None


def _pair(stage: stages.Stage) -> tuple[Report, Arrays]:
    return stage.seconds, stage.arrays
