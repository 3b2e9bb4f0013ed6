"""Criteria of whole units, each a pure score."""

from lth.structured.criteria import batch_norm, magnitude
from lth.structured.criteria.registry import UNIT_CRITERIA, UnitCriterion, register_unit_criterion

__all__ = ["UNIT_CRITERIA", "UnitCriterion", "register_unit_criterion"]
del batch_norm, magnitude
