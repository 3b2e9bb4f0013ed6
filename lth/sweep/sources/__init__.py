"""Where the masks of tickets come from: each source a file of its own, and one function that chooses."""

from lth.sweep.sources.choice import source_of
from lth.sweep.sources.source import Masks, MaskSource, Pruner, Scorable, Start

__all__ = ["MaskSource", "Masks", "Pruner", "Scorable", "Start", "source_of"]
