"""What a sweep is: the experiment's model, its id, how it is read, and lists of seeds."""

from lth.experiment.durations import Duration, to_steps
from lth.experiment.execution import Execution
from lth.experiment.load import explain, load_experiment, preset_names, preset_text
from lth.experiment.pruning import Pruning, Scoring
from lth.experiment.spec import Arm, Dataset, Experiment, Model, Transfer
from lth.experiment.training import Training
from lth.identity import canonical_json, digest
from lth.seeds import format_seeds, parse_seeds

__all__ = [
    "Arm",
    "Dataset",
    "Duration",
    "Execution",
    "Experiment",
    "Model",
    "Pruning",
    "Scoring",
    "Training",
    "Transfer",
    "canonical_json",
    "digest",
    "explain",
    "format_seeds",
    "load_experiment",
    "parse_seeds",
    "preset_names",
    "preset_text",
    "to_steps",
]
