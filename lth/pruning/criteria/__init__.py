"""Criteria, each a pure score in a file of its own."""

from lth.pruning.criteria import chance, fisher, grasp, magnitude, movement, snip, synflow, taylor
from lth.pruning.criteria.registry import CRITERIA, Criterion, criterion_names, register_criterion

__all__ = ["CRITERIA", "Criterion", "criterion_names", "register_criterion"]
del chance, fisher, grasp, magnitude, movement, snip, synflow, taylor
