"""Objectives: what outputs and targets are, the loss, and the score with its name and direction."""

from lth.objectives.classification import Classification
from lth.objectives.registry import OBJECTIVES, HasOutputGradient, Objective, Target, register_objective, score_of
from lth.objectives.regression import Regression
from lth.objectives.scores import SCORES, Score, register_score

__all__ = [
    "OBJECTIVES",
    "SCORES",
    "Classification",
    "HasOutputGradient",
    "Objective",
    "Regression",
    "Score",
    "Target",
    "register_objective",
    "register_score",
    "score_of",
]
