"""Which source an experiment's masks come from."""

from __future__ import annotations

from lth.experiment import Experiment
from lth.sweep.sources.after_training import AfterTraining
from lth.sweep.sources.another_experiment import AnotherExperiment
from lth.sweep.sources.at_initialisation import AtInitialisation
from lth.sweep.sources.exported_file import ExportedFile
from lth.sweep.sources.source import MaskSource


def source_of(experiment: Experiment) -> MaskSource:
    """The one place that looks at an experiment's `transfer`, `pruning.when` and `pruning.schedule`."""
    transfer, pruning = experiment.transfer, experiment.pruning
    if transfer is not None:
        return AnotherExperiment(transfer.experiment) if transfer.experiment else ExportedFile(str(transfer.ticket))
    iterative = pruning.schedule == "iterative"
    if pruning.when == "at_initialisation":
        return AtInitialisation(pruning.criterion, iterative)
    return AfterTraining(pruning.criterion, iterative)
