"""The stages of a unit: prune, rewind, train, evaluate. Plain functions of plain arrays, for any orchestrator.

What passes between the stages of one unit is a dict of NumPy arrays with a leading axis of seeds; what passes between
units goes through the store. Each stage returns the seconds that it spent by purpose, so that a run can say where its
time went.
"""

from lth.sweep.stages.clock import Clock, Stage
from lth.sweep.stages.committing import Committed, evaluate_and_commit
from lth.sweep.stages.cutting import prune
from lth.sweep.stages.starting import rewind
from lth.sweep.stages.training import blocks, train

__all__ = ["Clock", "Committed", "Stage", "blocks", "evaluate_and_commit", "prune", "rewind", "train"]
