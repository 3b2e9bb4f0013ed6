"""Pruning: criteria (scores), the ladder (counts) and scopes (who wins)."""

from lth.pruning.criteria import CRITERIA, criterion_names, magnitude, register_criterion
from lth.pruning.ladder import ladder, layer_fraction, remaining_per_level
from lth.pruning.scopes import keep_highest, random_like, select

__all__ = ["CRITERIA", "criterion_names", "keep_highest", "ladder", "layer_fraction", "magnitude", "random_like",
           "register_criterion", "remaining_per_level", "select"]
