"""What Ray runs: the stages of `lth.sweep` over data that all workers of a machine share.

Every body returns a pair: a small report that the flow reads, and arrays that stay where they are until the next
stage needs them.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

import torch

from lth.data import ImageData, load_dataset
from lth.errors import LthError
from lth.registry import import_module
from lth.sweep import connectivity, stages
from lth.sweep.connectivity import Connection, Measure
from lth.sweep.handover import Job
from lth.sweep.planning import Work
from lth.sweep.setup import DataFacts
from lth.sweep.unit import StageFunction
from tasks.cluster import StepReporter


@dataclass(frozen=True)
class Loaded:
    """A data set in shared memory."""

    name: str
    classes: int
    arrays: dict[str, Any]

    def images(self) -> ImageData:
        """The data set over the shared memory, without a copy."""
        return ImageData.from_arrays(self.name, self.classes, self.arrays)


def load(
    name: str, path: str | None, imports: tuple[str, ...], on_gpu: bool
) -> tuple[tuple[DataFacts, str, int, int], Loaded]:
    """Read and check a data set once: (facts, fingerprint, bytes, bytes of the GPU's memory), and it for every worker.

    `imports` are the user's modules, one of which may register it. Raises LthError if there is to be a GPU, but none.
    """
    memory = _gpu_memory() if on_gpu else 0
    for module in imports:
        import_module(module, "imports")
    data = load_dataset(name, path=path)
    arrays = data.to_arrays()
    size = sum(array.nbytes for array in arrays.values())
    return (DataFacts.of(data), data.fingerprint(), size, memory), Loaded(data.name, data.classes, arrays)


def _gpu_memory() -> int:
    """Bytes of the GPU that Ray gave to this worker."""
    if not torch.cuda.is_available():
        raise LthError(
            f"Ray offers a GPU on {platform.node()}, but torch {torch.__version__} sees none there; install "
            "a CUDA build and its driver on that machine, or use --device cpu"
        )
    return int(torch.cuda.get_device_properties(0).total_memory)


def run_stage(
    stage: StageFunction, job: Job, work: Work, loaded: Loaded, counter: Any, names: tuple[str, ...], *handed: Any
) -> tuple[Any, Any]:
    """A stage of a unit, with what the stages before it `handed` on under `names`; training tells the counter as it
    goes. The report is the seconds by purpose, or of the last stage what it has committed."""
    given = dict(zip(names, handed, strict=True))
    if stage is stages.train_unit:
        given["on_progress"] = reporter = StepReporter(counter)
        finished = stage(job, work, data=loaded.images(), **given)
        reporter.flush()
    else:
        finished = stage(job, work, data=loaded.images(), **given)
    return (finished, None) if isinstance(finished, stages.Evaluated) else (finished.seconds, finished.arrays)


def connect(job: Job, connection: Connection, measure: Measure, loaded: Loaded) -> tuple[int, None]:
    """Measure the connectivity of one piece of work into the store; how many rows it made."""
    rows = connectivity.connect(job, connection, measure, loaded.images())
    job.store.put_analysis("connectivity", job.experiment.id, rows)
    return rows.num_rows, None
