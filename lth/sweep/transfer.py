"""Tickets found elsewhere, trained on other data (Morcos et al. 2019): what an experiment says to take them over.

They are those of another experiment in the store, level by level and seed by seed, or one exported ticket, which then
is level 1 of every seed. The output layer is new: dense, with weights from a stream of its own. All other prunable
layers have the found mask, and all other parameters the weights that the ticket was rewound to (see
`lth.sweep.sources`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lth.errors import InvalidExperiment
from lth.experiment import Experiment
from lth.rewinding import REWINDS, rewind_of
from lth.store import Store
from lth.sweep.networks import DataFacts
from lth.sweep.sources import source_of
from lth.sweep.sources.another_experiment import described
from lth.sweep.work import SourceTickets
from lth.tickets import read_file, read_ticket
from lth.tickets.portable import check_card
from lth.trust import own_imports


def find_tickets(
    store: Store, experiment: Experiment, seeds: Sequence[int], facts: DataFacts, exported: bytes | None = None
) -> SourceTickets | None:
    """Where the tickets lie that the experiment takes over; None if it takes over none. `exported` is a ticket that is
    not in the store yet.

    Raises InvalidExperiment if there is no such source, if this network has no place for its tickets, or if some of
    the levels or seeds are missing.
    """
    return source_of(experiment).find(store, experiment, seeds, facts, exported)


def taking_over_experiment(store: Store, name: str, trust: bool = False) -> dict[str, Any]:
    """What an experiment says instead of its own, to train the tickets of the experiment of that id in the store.

    Raises Untrusted if that names code that the user of this process has not named himself, unless he has `trust`.
    """
    found = described(store, name, trust)
    theirs = found.model_dump(mode="json")
    return {
        "transfer": {"experiment": name},
        "model": theirs["model"],
        "imports": theirs["imports"],
        "pruning": {"levels": found.pruning.levels},
        "from": found.name,
    }


def trusted_source(store: Store, experiment: Experiment) -> Experiment:
    """An experiment that takes over tickets whose author is trusted: it imports his modules, on workers, too."""
    source = experiment.transfer.experiment if experiment.transfer else None
    if source is None:
        return experiment
    theirs = described(store, source, trust=True)
    modules = [*experiment.imports, *theirs.imports, *filter(None, [theirs.model.name.rpartition(":")[0]])]
    return experiment.model_copy(update={"imports": tuple(dict.fromkeys(modules))})


def taking_over_file(path: Path, trust: bool = False) -> tuple[dict[str, Any], bytes]:
    """What an experiment says instead of its own, to train an exported ticket; and the ticket, which `Store.put_ticket`
    is to put where the experiment finds it. Raises Untrusted as `taking_over_experiment` does."""
    data, file = read_file(path)
    ticket = read_ticket(data, file)
    card = ticket.card
    rewound = card.rewinding in REWINDS and rewind_of(card.rewinding).source != "trained"
    if card.removes != "weights" or not rewound:
        raise InvalidExperiment(
            f"{file} cannot be taken over: those are masks of weights, with the weights of the "
            f"initialisation or of an early step; it removes {card.removes} and was rewound by "
            f"{card.rewinding!r}"
        )
    check_card(file, ticket, trust)
    model = {
        "name": card.model,
        "arguments": card.model_arguments,
        "initialisation": card.initialisation,
        "prunable": sorted(ticket.masks),
        "output_layer": card.output_layer,
    }
    return {
        "transfer": {"ticket": hashlib.sha256(data).hexdigest()},
        "model": model,
        "imports": own_imports(card.imports),
        "pruning": {"levels": 1},
        "from": card.experiment_id.rpartition("-")[0],
    }, data
