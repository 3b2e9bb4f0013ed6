"""Rewinds: which weights a pruned network starts from again, and how it is trained. Each kind is a file of its own."""

from lth.rewinding.fine_tune import FineTune
from lth.rewinding.init import RewindToInit
from lth.rewinding.learning_rate import RewindLearningRate
from lth.rewinding.none import NoRewinding
from lth.rewinding.registry import REWINDS, Retraining, Rewind, register_rewind, rewind_of, stretched
from lth.rewinding.step import RewindToStep

__all__ = [
    "REWINDS",
    "FineTune",
    "NoRewinding",
    "Retraining",
    "Rewind",
    "RewindLearningRate",
    "RewindToInit",
    "RewindToStep",
    "register_rewind",
    "rewind_of",
    "stretched",
]
