"""Watchers, each with its settings in a file of its own."""

from lth.engine.watchers.early_stop import EarlyStop
from lth.engine.watchers.movement import Movement
from lth.engine.watchers.registry import WATCHERS, Change, Evaluation, Watcher, register_watcher
from lth.engine.watchers.rewind_point import RewindPoint

__all__ = [
    "WATCHERS",
    "Change",
    "EarlyStop",
    "Evaluation",
    "Movement",
    "RewindPoint",
    "Watcher",
    "register_watcher",
]
