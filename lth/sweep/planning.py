"""What is to be done: units still missing from the store, what each needs, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lth.experiment import Experiment
from lth.rewinding import rewind_of
from lth.store import Unit
from lth.sweep.sources import source_of
from lth.sweep.work import DONE_COLUMNS, Done, Key, SourceTickets, Work, done_of

__all__ = [
    "DONE_COLUMNS",
    "Done",
    "Key",
    "SourceTickets",
    "Work",
    "done_of",
    "keeps_weights",
    "needs",
    "parent_level",
    "plan",
    "planned_count",
    "ready",
    "trainings_behind",
    "work",
]


def plan(experiment: Experiment, seeds: Sequence[int], done: Iterable[Key], cohort_size: int) -> list[Unit]:
    """The units that are planned but not committed, asked seed by seed, in the order in which they should run.

    Level by level and the ticket first, so that an interrupted sweep leaves complete levels behind. Seeds travel in
    blocks of `cohort_size`; a block from which some seeds are committed already trains only the others.
    """
    finished = set(done)
    blocks = [tuple(seeds[start : start + cohort_size]) for start in range(0, len(seeds), cohort_size)]
    units = []
    for level in range(experiment.pruning.levels + 1):
        for arm, draw in experiment.draws():
            if level == 0 and arm != "ticket":
                continue  # at level 0 every arm is the dense network
            for block in blocks:
                missing = tuple(seed for seed in block if (arm, draw, level, seed) not in finished)
                if missing:
                    units.append(Unit(arm, draw, level, missing))
    return units


def planned_count(experiment: Experiment, seeds: int) -> int:
    """How many (arm, draw, level, seed) a sweep has."""
    return seeds * (1 + experiment.pruning.levels * len(experiment.draws()))


def needs(experiment: Experiment, unit: Unit) -> set[tuple[str, int, int]]:
    """The (arm, draw, level) whose commits, for the same seeds, a unit waits for."""
    if unit.level == 0:
        return set()
    parent = parent_level(experiment, unit.level)
    needed = {("ticket", 0, unit.level)} if unit.arm != "ticket" else set()
    if parent is not None and (unit.arm == "ticket" or keeps_weights(experiment)):
        needed.add(("ticket", 0, parent))
    if rewind_of(experiment.rewinding.kind).source == "step":
        needed.add(("ticket", 0, 0))
    return needed


def parent_level(experiment: Experiment, level: int) -> int | None:
    """The level that a ticket's mask is cut after: the one before, or the dense network. None: after none at all."""
    return source_of(experiment).parent_level(level)


def keeps_weights(experiment: Experiment) -> bool:
    """Whether pruned networks go on from trained weights, which all arms of a level then read."""
    return rewind_of(experiment.rewinding.kind).source == "trained"


def trainings_behind(experiment: Experiment, level: int) -> int:
    """How many trainings, its own included, lead to a ticket of that level."""
    return source_of(experiment).trainings_behind(level)


def ready(experiment: Experiment, unit: Unit, done: Mapping[Key, Done]) -> bool:
    """Whether everything that the unit needs is committed."""
    return all((*need, seed) in done for need in needs(experiment, unit) for seed in unit.seeds)


def work(experiment: Experiment, unit: Unit, done: Mapping[Key, Done], found: SourceTickets | None = None) -> Work:
    """The unit with the names of the units that it reads from; call it when the unit is `ready`. `found` are the
    tickets of another experiment, if it takes over those."""
    if unit.level == 0:
        return Work(unit, unit.seeds, ())
    source, ticket = source_of(experiment), unit.arm == "ticket"
    parent = source.parent_level(unit.level)
    masked = parent if ticket else unit.level  # the level whose masks are cut further, or taken as they are
    past = {} if masked is None else {seed: done["ticket", 0, masked, seed] for seed in unit.seeds}
    scores_trained = ticket and source.scores_trained
    gone = {seed for seed, done_ in past.items() if not done_.has_mask or (done_.diverged and scores_trained)}
    if ticket:
        gone |= source.without_mask(unit, found)
    live = tuple(seed for seed in unit.seeds if seed not in gone)
    trained_from, rewind_from = {}, {}
    if parent is not None and (scores_trained or keeps_weights(experiment)):
        trained_from = {seed: done["ticket", 0, parent, seed].unit for seed in live}
    if rewind_of(experiment.rewinding.kind).source == "step":
        rewind_from = {seed: done["ticket", 0, 0, seed].unit for seed in live}
    todo = Work(
        unit,
        live,
        tuple(seed for seed in unit.seeds if seed in gone),
        masks_from={seed: past[seed].unit for seed in live if seed in past},
        trained_from=trained_from,
        rewind_from=rewind_from,
        lost_in={seed: past[seed].unit for seed in unit.seeds if seed in gone and seed in past},
    )
    return source.taken_over(todo, found)
