"""The cohort engine: seeds stacked as one tensor program. Needs torch and NumPy only."""

from lth.engine.environment import choose_device, exact_arithmetic
from lth.engine.evaluation import evaluate
from lth.engine.evidence import EVIDENCE, Sample
from lth.engine.feed import Batches, Feed, make_feed
from lth.engine.layout import Layout
from lth.engine.network import Network, describe, initial_buffers, initialise
from lth.engine.optimizers import OPTIMIZERS, register_optimizer
from lth.engine.programs import choose_program
from lth.engine.recipe import Recipe, learning_rate
from lth.engine.result import Curves, Snapshot, Trained, joined
from lth.engine.schedules import SCHEDULES, register_schedule
from lth.engine.state import CohortState, Start
from lth.engine.training import CohortTraining
from lth.engine.watchers import WATCHERS, Watcher, register_watcher

__all__ = [
    "EVIDENCE",
    "OPTIMIZERS",
    "SCHEDULES",
    "WATCHERS",
    "Batches",
    "CohortState",
    "CohortTraining",
    "Curves",
    "Feed",
    "Layout",
    "Network",
    "Recipe",
    "Sample",
    "Snapshot",
    "Start",
    "Trained",
    "Watcher",
    "choose_device",
    "choose_program",
    "describe",
    "evaluate",
    "exact_arithmetic",
    "initial_buffers",
    "initialise",
    "joined",
    "learning_rate",
    "make_feed",
    "register_optimizer",
    "register_schedule",
    "register_watcher",
]
