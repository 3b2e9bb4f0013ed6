"""Rewinding: which weights a pruned network starts from again, and how it is trained."""

from lth.rewinding.kinds import Retraining, resolve_rewinding, stretched

__all__ = ["Retraining", "resolve_rewinding", "stretched"]
