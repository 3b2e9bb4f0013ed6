"""What passes between units, through the store: trained weights and rewind points, kept no longer than needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from lth.engine import Trained
from lth.errors import InvalidExperiment
from lth.experiment import Experiment
from lth.inspection.sketch import Sketch
from lth.store import Store
from lth.sweep.networks import network_of
from lth.sweep.pins import Pins
from lth.sweep.planning import Work, keeps_weights, parent_level
from lth.sweep.setup import DataFacts, Setup, resolve
from lth.sweep.sources import source_of


@dataclass(frozen=True)
class Job:
    """What every stage of a sweep shares: the experiment, its data's facts, the store, and how to execute."""

    experiment: Experiment
    facts: DataFacts
    store_url: str
    device: str = "auto"
    threads: int = 1
    code_version: str = ""
    save_every: float | None = None
    """Seconds between saves of a training in progress, at most; None: never."""
    slots: int = 1
    """How many units run at a time."""
    sketch: Sketch | None = None
    """What the factory has built where the sweep began; None: nobody has looked."""
    pins: Pins | None = None
    """What the sweep was opened with, and every process that works for it must have."""

    @property
    def setup(self) -> Setup:
        """The experiment made concrete. Raises InvalidExperiment if the factory builds another network here than where
        the sweep began."""
        found = resolve(self.experiment, self.facts)
        if self.sketch is not None:
            refuse_another(self.sketch, self.experiment, self.facts)
        return found

    @property
    def store(self) -> Store:
        return _store(self.store_url)


@dataclass(frozen=True)
class Masks:
    """What the stage `prune` hands on: one mask bool [seeds, *shape] for each prunable tensor, by name."""

    tensors: dict[str, torch.Tensor]


def refuse_another(began: Sketch, experiment: Experiment, facts: DataFacts) -> None:
    """Raises InvalidExperiment unless the experiment's factory builds here what it built elsewhere."""
    different = network_of(experiment, facts).sketch.difference(began)
    if different is not None:
        raise InvalidExperiment(
            f"model {experiment.model.name!r} is another network in this process than where the sweep began: "
            f"{different}; build it of the same parts in the same order everywhere (no sets, hashes, names of hosts)"
        )


@lru_cache(maxsize=4)
def _store(url: str) -> Store:
    return Store(url)


def kept_for_later(
    experiment: Experiment, setup: Setup, work: Work, trained: Trained | None
) -> dict[str, torch.Tensor] | None:
    """What later levels need: trained weights of a ticket, evidence that its training gathered, and at level 0 the
    rewind point. Lost seeds hold NaN."""
    if trained is None or work.unit.arm != "ticket" or not read_later(experiment, work.unit.level):
        return None
    layout, saved = setup.network.layout, {}
    for prefix, snapshot in (("trained/", trained.end), ("rewind/", trained.rewind_point)):
        if snapshot is not None:
            saved.update({prefix + name: view for name, view in layout.views(snapshot.weights).items()})
            saved.update({f"{prefix}buffers/{name}": buffer for name, buffer in snapshot.buffers.items()})
    for name in setup.gathered:
        views = layout.views(trained.kept[name][name])
        saved.update({f"{name}/{tensor.name}": views[tensor.name] for tensor in setup.network.prunable})
    position = {seed: row for row, seed in enumerate(work.seeds)}

    def every_seed(tensor: torch.Tensor) -> torch.Tensor:
        if not work.lost:
            return tensor.contiguous()
        blank = torch.full_like(tensor[0], torch.nan if tensor.is_floating_point() else 0)
        return torch.stack([tensor[position[seed]] if seed in position else blank for seed in work.unit.seeds])

    return {name: every_seed(tensor) for name, tensor in saved.items()}


def read_later(experiment: Experiment, level: int) -> bool:
    """Whether a deeper level reads the trained weights (or the rewind point) of this one."""
    return source_of(experiment).read_later(level)


def forget_parents(job: Job, work: Work) -> None:
    """Delete trained weights that nothing needs any more: those of the level before, once all its seeds are here.

    Level 0 stays: it holds the dense networks and the rewind points. Where networks go on from trained weights every
    level stays: its controls start from them, and they could not be had again without all levels before.
    """
    if work.unit.arm != "ticket" or not parent_level(job.experiment, work.unit.level) or keeps_weights(job.experiment):
        return
    for name in set(work.trained_from.values()):
        if set(job.store.seeds_of(job.experiment.id, name)) <= set(work.unit.seeds):
            job.store.delete_checkpoint(job.experiment.id, name)
