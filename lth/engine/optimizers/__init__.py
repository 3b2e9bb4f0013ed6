"""Optimizers, each with its settings in a file of its own."""

from lth.engine.optimizers.adam import Adam, AdamW
from lth.engine.optimizers.registry import OPTIMIZERS, Optimizer, register_optimizer
from lth.engine.optimizers.rmsprop import RMSprop
from lth.engine.optimizers.sgd import SGD

__all__ = ["OPTIMIZERS", "SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "register_optimizer"]
