"""Structured tickets: whole neurons, filters and channels, scored, masked and physically removed."""

from lth.structured.cohort import SmallCohort, same_counts
from lth.structured.discovery import unit_groups
from lth.structured.masks import alive_units, cut, kept_indices, paste, unit_masks
from lth.structured.scores import keep_units, unit_scores
from lth.structured.size import Size, measure
from lth.structured.surgery import shrink
from lth.structured.units import Slices, UnitGroup

__all__ = [
    "Size",
    "Slices",
    "SmallCohort",
    "UnitGroup",
    "alive_units",
    "cut",
    "keep_units",
    "kept_indices",
    "measure",
    "paste",
    "same_counts",
    "shrink",
    "unit_groups",
    "unit_masks",
    "unit_scores",
]
