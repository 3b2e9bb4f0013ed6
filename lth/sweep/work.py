"""What is known of units that are committed, and a unit of work with everything that its stages read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lth.experiment import Experiment
from lth.store import Committed, Unit

Key = tuple[str, int, int, int]  # arm, draw, level, seed


@dataclass(frozen=True, slots=True)
class Done:
    """Where a committed (arm, draw, level, seed) lies, and what is known of it.

    `density`: of the mask; `reached`: the score, called `score`, on the test set at early stop; None where the training
    diverged.
    """

    unit: str
    diverged: bool
    has_mask: bool
    density: float | None = None
    reached: float | None = None
    score: str = "accuracy"

    @classmethod
    def of(cls, unit: str, row: Mapping[str, Any]) -> Done:
        """What a row of `levels` in that unit says; it needs DONE_COLUMNS."""
        return cls(
            unit,
            row["status"] == "diverged",
            row["mask_sha256"] is not None,
            row["density"],
            row["test_score_at_early_stop"],
            row["score"],
        )


DONE_COLUMNS = ["arm", "draw", "level", "seed", "status", "mask_sha256", "density", "test_score_at_early_stop", "score"]


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
class SourceTickets:
    """Tickets that another experiment found, and whether it rewinds them to a later step than the first. None of them
    where one exported ticket is every seed's."""

    tickets: Mapping[Key, Done]
    late: bool


@dataclass(frozen=True)
class Work:
    """A unit with everything that its stages read, as names of committed units by seed.

    `seeds` are those that can be trained; `lost` those whose ticket diverged at an earlier level, so that there is no
    mask for them: they are recorded as diverged without training. `masks_from` are units whose masks are cut further,
    or taken as they are by a control; `trained_from` those whose trained weights are scored, or trained on; and
    `rewind_from` those that hold the rewind points.
    """

    unit: Unit
    seeds: tuple[int, ...]
    lost: tuple[int, ...]
    masks_from: Mapping[int, str] = field(default_factory=dict)
    trained_from: Mapping[int, str] = field(default_factory=dict)
    rewind_from: Mapping[int, str] = field(default_factory=dict)
    source_tickets: Mapping[int, str] = field(default_factory=dict)
    """Units of another experiment whose masks are taken over."""
    source_rewind_points: Mapping[int, str] = field(default_factory=dict)
    """Its units that hold the rewind points; none if it rewinds to initialisation."""
    lost_in: Mapping[int, str] = field(default_factory=dict)
    """Units of this experiment that say so of the seeds that are `lost`; nothing else is read from them."""
