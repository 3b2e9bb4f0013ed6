"""What is to be done: units still missing from the store, what each needs, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lth.experiment import Experiment, FineTune, NoRewinding, RewindLearningRate, RewindToStep
from lth.store import Committed, Unit

Key = tuple[str, int, int, int]  # arm, draw, level, seed


@dataclass(frozen=True, slots=True)
class Done:
    """Where a committed (arm, draw, level, seed) lies, and what is known of it.

    `density`: of the mask; `accuracy`: on the test set at early stop, a fraction; None where the training diverged.
    """

    unit: str
    diverged: bool
    has_mask: bool
    density: float | None = None
    accuracy: float | None = None

    @classmethod
    def of(cls, unit: str, row: Mapping[str, Any]) -> Done:
        """What a row of `levels` in that unit says; it needs DONE_COLUMNS."""
        return cls(
            unit,
            row["status"] == "diverged",
            row["mask_sha256"] is not None,
            row["density"],
            row["test_accuracy_at_early_stop"],
        )


DONE_COLUMNS = ["arm", "draw", "level", "seed", "status", "mask_sha256", "density", "test_accuracy_at_early_stop"]


def done_of(experiment: Experiment, seeds: Sequence[int], committed: Committed) -> dict[Key, Done]:
    """What of a sweep's trainings a store holds; other seeds, arms and deeper levels in it are left out."""
    wanted, arms = set(seeds), set(experiment.draws())
    rows = committed.rows.select(DONE_COLUMNS).to_pylist()
    keys = (((row["arm"], row["draw"], row["level"], row["seed"]), row) for row in rows)
    return {
        key: Done.of(committed.where[key], row)
        for key, row in keys
        if key[:2] in arms and key[2] <= experiment.pruning.levels and key[3] in wanted
    }


@dataclass(frozen=True)
class Found:
    """Tickets that another experiment found, and whether it rewinds them to a later step than the first. None of them
    where one exported ticket is every seed's."""

    tickets: Mapping[Key, Done]
    late: bool


@dataclass(frozen=True)
class Work:
    """A unit with everything that its stages read, as names of committed units by seed.

    `seeds` are those that can be trained; `lost` those whose ticket diverged at an earlier level, so that there is no
    mask for them: they are recorded as diverged without training.
    """

    unit: Unit
    seeds: tuple[int, ...]
    lost: tuple[int, ...]
    masks_from: Mapping[int, str] = field(default_factory=dict)
    trained_from: Mapping[int, str] = field(default_factory=dict)
    rewind_from: Mapping[int, str] = field(default_factory=dict)
    found_by: Mapping[int, str] = field(default_factory=dict)
    """Units of another experiment whose masks are taken over."""
    begun_by: Mapping[int, str] = field(default_factory=dict)
    """Its units that hold the rewind points; none if it rewinds to initialisation."""
    lost_in: Mapping[int, str] = field(default_factory=dict)
    """Units of this experiment that say so of the seeds that are `lost`; nothing else is read from them."""


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
    if isinstance(experiment.rewinding, RewindToStep):
        needed.add(("ticket", 0, 0))
    return needed


def parent_level(experiment: Experiment, level: int) -> int | None:
    """The level that a ticket's mask is cut after: the one before, or the dense network. None: after none at all."""
    if experiment.transfer is not None:
        return None
    if experiment.pruning.schedule == "iterative":
        return level - 1
    return 0 if experiment.pruning.when == "after_training" else None


def keeps_weights(experiment: Experiment) -> bool:
    """Whether pruned networks go on from trained weights, which all arms of a level then read."""
    return isinstance(experiment.rewinding, RewindLearningRate | FineTune | NoRewinding)


def trainings_behind(experiment: Experiment, level: int) -> int:
    """How many trainings, its own included, lead to a ticket of that level."""
    if experiment.masks_come_first:
        return 1
    return level + 1 if experiment.pruning.schedule == "iterative" else min(level, 1) + 1


def ready(experiment: Experiment, unit: Unit, done: Mapping[Key, Done]) -> bool:
    """Whether everything that the unit needs is committed."""
    return all((*need, seed) in done for need in needs(experiment, unit) for seed in unit.seeds)


def work(experiment: Experiment, unit: Unit, done: Mapping[Key, Done], found: Found | None = None) -> Work:
    """The unit with the names of the units that it reads from; call it when the unit is `ready`. `found` are the
    tickets of another experiment, if it takes over those."""
    if unit.level == 0:
        return Work(unit, unit.seeds, ())
    if found is not None and not found.tickets:
        return Work(
            unit,
            unit.seeds,
            (),
            {} if unit.arm == "ticket" else {seed: done["ticket", 0, unit.level, seed].unit for seed in unit.seeds},
        )
    if found is not None and unit.arm == "ticket":
        lost = tuple(seed for seed in unit.seeds if not found.tickets["ticket", 0, unit.level, seed].has_mask)
        live = tuple(seed for seed in unit.seeds if seed not in lost)
        return Work(
            unit,
            live,
            lost,
            begun_by=_begun_by(found, live),
            found_by={seed: found.tickets["ticket", 0, unit.level, seed].unit for seed in live},
        )
    before = parent_level(experiment, unit.level)
    level = unit.level if unit.arm != "ticket" else before
    if level is None:  # the mask comes from nothing but the seed
        return Work(unit, unit.seeds, ())
    scored = {seed: done["ticket", 0, level, seed] for seed in unit.seeds}
    trained = not experiment.masks_come_first
    lost = tuple(
        seed
        for seed, parent in scored.items()
        if not parent.has_mask or (parent.diverged and unit.arm == "ticket" and trained)
    )
    live = tuple(seed for seed in unit.seeds if seed not in lost)
    late = isinstance(experiment.rewinding, RewindToStep)
    reads_trained = trained and (unit.arm == "ticket" or keeps_weights(experiment))
    return Work(
        unit,
        live,
        lost,
        masks_from={seed: scored[seed].unit for seed in live},
        trained_from={seed: done["ticket", 0, before, seed].unit for seed in live}
        if reads_trained and before is not None
        else {},
        rewind_from={seed: done["ticket", 0, 0, seed].unit for seed in live} if late else {},
        begun_by=_begun_by(found, live) if found is not None else {},
        lost_in={seed: scored[seed].unit for seed in lost},
    )


def _begun_by(found: Found, seeds: Sequence[int]) -> dict[int, str]:
    return {seed: found.tickets["ticket", 0, 0, seed].unit for seed in seeds} if found.late else {}
