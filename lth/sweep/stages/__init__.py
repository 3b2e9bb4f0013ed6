"""The stages of a unit: prune, rewind, train, evaluate. Plain functions of plain arrays, for any orchestrator.

What passes between the stages of one unit is a dict of NumPy arrays with a leading axis of seeds; what passes between
units goes through the store. Each stage returns the seconds that it spent by purpose, so that a run can say where its
time went.
"""

from lth.sweep.stages.clock import Clock, Stage
from lth.sweep.stages.evaluate import Evaluated, evaluate_unit
from lth.sweep.stages.prune import prune_unit
from lth.sweep.stages.rewind import rewind_unit
from lth.sweep.stages.train import blocks, train_unit

__all__ = ["Clock", "Evaluated", "Stage", "blocks", "evaluate_unit", "prune_unit", "rewind_unit", "train_unit"]
