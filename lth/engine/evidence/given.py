"""Evidence that a cohort has already: its weights, those that it began with, and what watchers gathered."""

from __future__ import annotations

import torch

from lth.engine.evidence.cohort import ScoredCohort
from lth.engine.evidence.registry import register_rows


@register_rows("weights", "the weights as they are, pruned ones zero")
def weights(cohort: ScoredCohort) -> torch.Tensor:
    """The weights as they are, pruned ones zero."""
    return cohort.weights


@register_rows("initial_weights", "the weights at initialisation")
def initial_weights(cohort: ScoredCohort) -> torch.Tensor:
    """The weights at initialisation, pruned ones among them."""
    if cohort.initial is None:
        raise ValueError("the evidence 'initial_weights' was not given")
    return cohort.initial


@register_rows("movement", "-sum over the steps of the training of w dL/dw", watcher="movement")
def movement(cohort: ScoredCohort) -> torch.Tensor:
    """What the training did to each weight: -sum over its steps of w dL/dw (Sanh, Wolf & Rush 2020)."""
    return cohort.gathered("movement")
