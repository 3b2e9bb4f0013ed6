"""The inspection of an experiment's network on its data, once in a process."""

from __future__ import annotations

import torch

from lth.data.examples import DataSet
from lth.engine import make_feed
from lth.errors import InvalidExperiment
from lth.experiment import Experiment
from lth.inspection import Inspection, Trials, inspect_network
from lth.pruning import CRITERIA
from lth.sweep.progress import Phase, tell
from lth.sweep.setup import DataFacts, resolve
from lth.sweep.sources import source_of

SEED = 0
"""Whose weights and examples the trials are made with: what a network can do is no matter of the seed."""

_FOUND: dict[tuple[str, DataFacts, str], Inspection] = {}


def inspected(experiment: Experiment, data: DataSet, device: torch.device | str = "cpu") -> Inspection:
    """What an inspection of the network finds; raises InvalidExperiment for what cannot be trained or repeated."""
    facts = DataFacts.of(data)
    key = experiment.model_dump_json(), facts, str(device)
    if key not in _FOUND:
        tell(Phase("inspecting the network"))
        _FOUND[key] = _inspect(experiment, data, facts, torch.device(device))
    return _FOUND[key]


def was_inspected(experiment: Experiment) -> bool:
    """Whether this process has inspected it."""
    return any(key[0] == experiment.model_dump_json() for key in _FOUND)


def _inspect(experiment: Experiment, data: DataSet, facts: DataFacts, device: torch.device) -> Inspection:
    setup, dataset, pruning = resolve(experiment, facts), experiment.dataset, experiment.pruning
    transform = data.transform(dataset.standardise, dataset.crop_padding, dataset.flip)
    feed = make_feed(data, (SEED,), dataset.validation, transform, device)
    scores = pruning.levels and not setup.groups and not source_of(experiment).elsewhere
    needs = CRITERIA[pruning.criterion].needs if scores else ()
    try:
        return inspect_network(setup.network, Trials(setup.recipe, feed, needs, setup.sample))
    except InvalidExperiment as error:
        raise InvalidExperiment(f"model {experiment.model.name!r}: {error}") from None
