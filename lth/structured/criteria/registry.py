"""The registry of criteria for units. A criterion is only a score; low scores are removed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch

from lth.errors import InvalidExperiment
from lth.registry import Registry

UnitScore = Callable[..., torch.Tensor]
UNIT_EVIDENCE = {
    "weights": "the weights that write each unit, removed ones zero; biases apart",
    "remaining": "which of these weights remain, as booleans",
    "scales": "the scales gamma of the batch norms on each unit",
}
"""What a criterion of units can ask for: tensors [seeds, units, entries] of one group of units."""


@dataclass(frozen=True)
class UnitCriterion:
    """A score of units and what it is made of.

    `score` maps its evidence, tensors [seeds, units, entries] of one group of a network's units, to [seeds, units].
    `needs` names the evidence: the parameters of the function (see UNIT_EVIDENCE). Groups differ in how many weights
    write a unit: means let wide and narrow layers compete, sums do not. Sums are to be in double precision: a seed's
    scores must not depend on how many seeds are summed beside it.
    """

    score: UnitScore
    needs: tuple[str, ...]

    @property
    def needs_norms(self) -> bool:
        """Whether every group must have a batch norm."""
        return "scales" in self.needs


UNIT_CRITERIA: Registry[UnitCriterion] = Registry("criterion for units", UnitCriterion)


def register_unit_criterion(name: str, description: str) -> Callable[[UnitScore], UnitScore]:
    """Decorator: make a score of units known by `name`. The parameters of the function say what it needs.

        @register_unit_criterion("largest", "the largest |w| of the weights that write the unit")
        def largest(weights):
            return weights.abs().amax(2)

    Raises InvalidExperiment for a parameter that is no evidence of units, or if another has that name already.
    """

    def register(score: UnitScore) -> UnitScore:
        needs = tuple(inspect.signature(score).parameters)
        for need in needs:
            if need not in UNIT_EVIDENCE:
                raise InvalidExperiment(
                    f"criterion {name!r} asks for {need!r}, which no unit has; there is {', '.join(UNIT_EVIDENCE)}"
                )
        UNIT_CRITERIA.add(name, UnitCriterion(score, needs), description, score)
        return score

    return register
