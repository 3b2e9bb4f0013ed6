"""Structured tickets: whole neurons, filters and channels, scored, masked and physically removed."""

from lth.structured.cohort import SmallCohort, same_counts
from lth.structured.criteria import UNIT_CRITERIA, UnitCriterion, register_unit_criterion
from lth.structured.discovery import removable_groups, unit_groups
from lth.structured.masks import alive_units, cut, kept_indices, paste, unit_masks
from lth.structured.scores import check_units, keep_units, unit_scores
from lth.structured.size import Size, measure
from lth.structured.surgery import shrink
from lth.structured.units import Slices, UnitGroup

__all__ = [
    "UNIT_CRITERIA",
    "Size",
    "Slices",
    "SmallCohort",
    "UnitCriterion",
    "UnitGroup",
    "alive_units",
    "check_units",
    "cut",
    "keep_units",
    "kept_indices",
    "measure",
    "paste",
    "register_unit_criterion",
    "removable_groups",
    "same_counts",
    "shrink",
    "unit_groups",
    "unit_masks",
    "unit_scores",
]
