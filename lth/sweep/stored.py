"""The experiment that a store describes: believed if it fits its id, and built from registered parts alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lth.errors import InvalidExperiment, LthError
from lth.experiment import Experiment
from lth.experiment.load import build_experiment
from lth.models.strangers import check_network
from lth.sweep.networks import DataFacts
from lth.trust import own_imports, require_trust

UNKNOWN = DataFacts((3, 32, 32), 10, 1)
"""Of data whose shape the store does not say: how large a network is depends on its arguments more than on that."""


def stored_experiment(identifier: str, described: Mapping[str, Any], trust: bool = False) -> Experiment:
    """The experiment of that id, of what `Store.describe` says of it. Imports nothing that the user of this process has
    not named himself, unless he trusts it.

    Raises Untrusted where something would have to be imported, LthError for what cannot be an experiment of that id or
    has a network that no machine holds.
    """
    content = described.get("experiment")
    if not isinstance(content, dict):
        raise LthError(f"the store does not say what {identifier} is: its experiment.yaml is missing")
    model, imports = str(content["model"]["name"]), list(content.get("imports") or ())
    try:
        # What names nothing but registered parts needs no module of its author's.
        experiment = build_experiment({**content, "imports": own_imports(imports)})
        require_trust(identifier, (), model, trust)
    except InvalidExperiment:
        require_trust(identifier, imports, model, trust)
        experiment = build_experiment({**content, "imports": own_imports(imports)})
    if experiment.id != identifier:
        raise LthError(
            f"{identifier} was made by another version of lth: this one calls the same settings "
            f"{experiment.id}; use the version that made it"
        )
    if not trust and ":" not in model:
        facts = facts_of(described) or UNKNOWN
        check_network(identifier, model, facts.input_shape, facts.classes, dict(experiment.model.arguments))
    return experiment


def facts_of(described: Mapping[str, Any]) -> DataFacts | None:
    """What the store notes of the experiment's data; None if it was first run by a version that noted nothing."""
    data = described.get("data")
    if data is None:
        return None
    try:
        shape, classes, examples = data["input_shape"], data["classes"], data["examples"]
        target = data.get("target", "class")
        numbers = [*shape, examples, *([classes] if target == "class" else [])]
        if not all(type(number) is int and number > 0 for number in numbers) or type(classes) is not int:
            raise ValueError(f"{[*numbers, classes]} are no sizes")
        return DataFacts(tuple(shape), classes, examples, target)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LthError(f"experiment.yaml is damaged: what it says of the data is unreadable ({error})") from None
