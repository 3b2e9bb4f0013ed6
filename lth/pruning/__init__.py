"""Pruning: criteria (scores), the ladder and allocation (counts), scopes (who wins), rounds (again and again)."""

from lth.pruning.criteria import CRITERIA, Criterion, criterion_names, register_criterion
from lth.pruning.ladder import between, ladder, layer_fraction, remaining_per_level
from lth.pruning.rounds import Scored, prune
from lth.pruning.scopes import PruningFailed, keep_highest, random_like, select

__all__ = [
    "CRITERIA",
    "Criterion",
    "PruningFailed",
    "Scored",
    "between",
    "criterion_names",
    "keep_highest",
    "ladder",
    "layer_fraction",
    "prune",
    "random_like",
    "register_criterion",
    "remaining_per_level",
    "select",
]
