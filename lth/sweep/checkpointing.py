"""Trainings in progress, saved now and then: a machine that is lost costs a minute of work, not a unit of hours."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import torch

from lth import version
from lth.engine import CohortTraining, Start
from lth.errors import StoreError
from lth.registry import import_module
from lth.store import Unit
from lth.store.checkpoints import content_of
from lth.sweep.handover import Job

log = logging.getLogger(__name__)

SHARE = 0.02
"""Saving takes no more than this part of the time, however large the cohort and slow the store."""

SHORTEST = 1.0
"""Seconds that lie between two saves at least."""

MOST_SAVES = 16
"""Saves of a unit that is shorter than the time between them; as many are left out as take too much time."""


class Saves:
    """The saves of one unit, which trains part by part. What came of finished parts is saved with the next.

    A training goes on from its save only if it would begin from the same weights and masks, with the same code, torch,
    kind of device and number of threads: on a CPU it then ends as if it had never stopped, to the bit.
    """

    def __init__(self, job: Job, unit: Unit, seeds: int, steps: int, device: torch.device) -> None:
        """`seeds` of the unit are to be trained, for `steps` each.

        Where that takes less than `job.save_every`, it is saved in parts all the same, two for every slot: whoever ends
        the whole sweep then costs half a unit.
        """
        self.job = job
        self.unit = unit
        self.left = seeds
        self.device = device
        self.last = time.monotonic()
        self.rest = min(SHORTEST, job.save_every or 0.0)
        self.to_train = seeds * steps
        self.part = self.to_train / min(2 * job.slots, MOST_SAVES)
        self.trained = self.unsaved = 0
        self.known = set() if job.save_every is None else job.store.parts_in_progress(job.experiment.id, unit)
        self.finished: list[tuple[_Part, dict[str, torch.Tensor]]] = []

    @contextmanager
    def following(self, training: CohortTraining, seeds: tuple[int, ...], start: Start) -> Iterator[float]:
        """Advance the training within; it has been put where it was saved last. Yields the seconds that were spent on
        it before; `after_step` is to follow every step."""
        if self.job.save_every is None:
            yield 0.0
            return
        part = _Part(Unit(self.unit.arm, self.unit.draw, self.unit.level, seeds), start, self.job, self.device)
        before = 0.0
        if part.unit.name in self.known:
            saved = self.job.store.read_progress(self.job.experiment.id, self.unit, part.unit, part.origin)
            if saved is not None:
                before = saved.pop("seconds").item()
                training.restore(saved)
                log.info("%s goes on from step %d", part.unit.name, training.step)
        self.current, self.since = (part, training), time.perf_counter() - before
        try:
            yield before
            self.left -= len(seeds)
            if self.left:
                self.finished.append((part, self._state()))
        finally:
            del self.current  # a training that a GPU had no memory for holds none any more

    def after_step(self) -> None:
        """Save, if it is time."""
        if self.job.save_every is None:
            return
        self.trained += len(self.current[0].unit.seeds)
        self.unsaved += len(self.current[0].unit.seeds)
        begun = time.monotonic()
        due = begun - self.last >= self.job.save_every or self.unsaved >= self.part
        if not due or begun - self.last < self.rest or self.trained >= self.to_train:
            return
        try:
            for part, state in (*self.finished, (self.current[0], self._state())):
                self.job.store.put_progress(self.job.experiment.id, self.unit, part.unit, state, part.origin)
            self.finished.clear()
        except StoreError as error:  # the training goes on; so does the store, or the commit will say what is wrong
            log.warning("a training in progress could not be saved: %s", error)
        self.unsaved, self.last = 0, time.monotonic()
        self.rest = max(min(SHORTEST, self.job.save_every), (self.last - begun) / SHARE)

    def _state(self) -> dict[str, torch.Tensor]:
        spent = torch.tensor(time.perf_counter() - self.since, dtype=torch.float64)
        return {**self.current[1].checkpoint(), "seconds": spent}


@dataclass(frozen=True)
class _Part:
    """Seeds of a unit that train together, and where they start."""

    unit: Unit
    start: Start
    job: Job
    device: torch.device

    @cached_property
    def origin(self) -> str:
        """SHA-256 (hex) of what the training begins from and on what."""
        start = self.start
        tensors = {
            "weights": start.weights,
            "mask": start.mask,
            **{f"buffers/{name}": buffer for name, buffer in start.buffers.items()},
        }
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else _processor()
        model, _, _ = self.job.experiment.model.name.rpartition(":")
        said = [
            self.job.code_version,
            _sources((*self.job.experiment.imports, model)),
            str(torch.__version__),
            device,
            self.job.threads,
            start.step,
            content_of(tensors),
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


@cache
def _sources(modules: tuple[str, ...]) -> str:
    """SHA-256 (hex) of the code of this package, as it is now, and of modules of the user's."""
    digest = hashlib.sha256()
    files = sorted(Path(version.__file__).parent.rglob("*.py"))
    for module in filter(None, modules):
        files.append(Path(str(getattr(import_module(module, "imports"), "__file__", ""))))
    for file in files:
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()


@cache
def _processor() -> str:
    """The CPU's name, and the instructions that torch uses of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{name or platform.processor()} {torch.backends.cpu.get_cpu_capability()}"
