"""Pruning: criteria (scores), scopes, ladder and allocation (counts), selection (who wins), rounds (repeated)."""

from lth.pruning.criteria import CRITERIA, Criterion, criterion_names, register_criterion
from lth.pruning.ladder import between, ladder, layer_fraction
from lth.pruning.rounds import Scored, prune
from lth.pruning.scopes import SCOPES, Scope, register_scope
from lth.pruning.scopes.layer import remaining_per_level
from lth.pruning.selection import PruningFailed, keep_highest, random_like, select

__all__ = [
    "CRITERIA",
    "SCOPES",
    "Criterion",
    "PruningFailed",
    "Scope",
    "Scored",
    "between",
    "criterion_names",
    "keep_highest",
    "ladder",
    "layer_fraction",
    "prune",
    "random_like",
    "register_criterion",
    "register_scope",
    "remaining_per_level",
    "select",
]
