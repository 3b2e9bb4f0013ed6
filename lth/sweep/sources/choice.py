"""Which source an experiment's tickets come from."""

from __future__ import annotations

from lth.experiment import Experiment
from lth.pruning.sources import MASK_SOURCES
from lth.sweep.sources.another_experiment import AnotherExperiment
from lth.sweep.sources.cut_here import CutHere
from lth.sweep.sources.exported_file import ExportedFile
from lth.sweep.sources.source import TicketSource


def source_of(experiment: Experiment) -> TicketSource:
    """The one place that looks at an experiment's `transfer`, `pruning.when` and `pruning.schedule`."""
    transfer, pruning = experiment.transfer, experiment.pruning
    if transfer is not None:
        return AnotherExperiment(transfer.experiment) if transfer.experiment else ExportedFile(str(transfer.ticket))
    return CutHere(MASK_SOURCES[pruning.when](pruning.schedule == "iterative"), pruning.criterion)
