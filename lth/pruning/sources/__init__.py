"""Mask sources: which weights masks are cut from. Each is a file of its own."""

from lth.pruning.sources.after_training import AfterTraining
from lth.pruning.sources.at_initialisation import AtInitialisation
from lth.pruning.sources.registry import (
    MASK_SOURCES,
    Masks,
    MaskSource,
    Pruner,
    Scorable,
    register_mask_source,
    scores_trained,
)

__all__ = [
    "MASK_SOURCES",
    "AfterTraining",
    "AtInitialisation",
    "MaskSource",
    "Masks",
    "Pruner",
    "Scorable",
    "register_mask_source",
    "scores_trained",
]
