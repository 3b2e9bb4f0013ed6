"""What an inspection found, in words: which weights densities are of, what stays dense, and what one must know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lth.experiment import Experiment
from lth.inspection import Inspection
from lth.models import LeftDense
from lth.sweep.networks import DataFacts, network_of
from lth.sweep.setup import Setup, resolve

LARGE = 0.01
"""Part of a network's weights from which a matrix that stays dense is named."""
LARGE_PART = 0.1
"""Part of a network's weights from which it is said that it is never pruned."""


@dataclass(frozen=True)
class SomeWeights:
    """Some of a network's weights: what they are, how many, and how many parts of 1 of all; whether it is one
    parameter by its name."""

    what: str
    weights: int
    share: float
    named: bool = False


def shares(experiment: Experiment, facts: DataFacts) -> list[SomeWeights]:
    """All weights of the network: those that are pruned, each large parameter that is not and why, and the rest by
    reason."""
    found = network_of(experiment, facts)
    pruned = sum(tensor.size for tensor in found.network.prunable)
    total = pruned + sum(each.size for each in found.dense)
    parts = [SomeWeights("prunable", pruned, pruned / total)]
    large = [each for each in found.dense if len(each.shape) > 1 and each.size > LARGE * total]
    parts += [SomeWeights(f"{each.name}: {_reason(each)}", each.size, each.size / total, named=True) for each in large]
    rest: dict[str, int] = {}
    for each in found.dense:
        if each not in large:
            rest[_reason(each)] = rest.get(_reason(each), 0) + each.size
    return parts + [SomeWeights(f"dense: {reason}", size, size / total) for reason, size in rest.items()]


def _reason(dense: LeftDense) -> str:
    return dense.reason if dense.trained else f"frozen ({dense.reason})" if dense.reason != "frozen" else "frozen"


def notes(experiment: Experiment, facts: DataFacts, inspection: Inspection) -> list[str]:
    """What must be known of a network and its levels before they are read, one sentence each."""
    setup = resolve(experiment, facts)
    sentences = [*_idle_levels(experiment, setup), *_left_dense(experiment, facts)]
    if inspection.in_evaluation:
        sentences.append(f"{_some(inspection.in_evaluation)} stays in evaluation mode, as the factory has set it.")
    if inspection.without_gradient:
        sentences.append(
            f"The loss does not depend on {_some(inspection.without_gradient)} in training: it is pruned by what it is "
            "at the start."
        )
    if inspection.draws_in_evaluation:
        sentences.append(
            "The network draws random numbers in evaluation mode, too (dropout without `self.training`?): its answers "
            "are those of one draw."
        )
    return sentences


def network_record(experiment: Experiment, facts: DataFacts) -> dict[str, Any]:
    """The sizes of the network, and what reports must say of them, as a store keeps them."""
    parts = shares(experiment, facts)
    return {
        "weights": sum(part.weights for part in parts),
        "prunable": parts[0].weights,
        "caveats": _left_dense(experiment, facts),
        "sketch": network_of(experiment, facts).sketch.whole,
    }


def _left_dense(experiment: Experiment, facts: DataFacts) -> list[str]:
    pruned, *dense = shares(experiment, facts)
    if 1 - pruned.share < LARGE_PART:
        return []
    named = [part.what.partition(":")[0] for part in dense if part.named]
    which = f" ({_some(named)})" if named else ""
    return [
        f"{1 - pruned.share:.0%} of the network's weights are never pruned{which}: densities are those of the "
        f"{pruned.weights:,} prunable weights, not of the network."
    ]


def _idle_levels(experiment: Experiment, setup: Setup) -> list[str]:
    if setup.counts[0] == setup.counts[-1] and experiment.transfer:
        return []
    idle = [level for level in range(1, len(setup.counts)) if setup.counts[level] == setup.counts[level - 1]]
    if not idle:
        return []
    return [
        f"{len(idle)} of {experiment.pruning.levels} levels remove nothing ({_levels(idle)}): they train "
        "again what the level above has trained; use a larger pruning.fraction."
    ]


def _levels(numbers: Sequence[int]) -> str:
    first = ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")
    return f"level{'s' * (len(numbers) > 1)} {first}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
