"""A unit from its ticket to its commit: the four stages, and which of them reads from which other units.

Written once. A notebook calls the stages, the flow makes a Prefect task run of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from lth.arms import ARMS
from lth.experiment import Experiment
from lth.sweep.handover import Job
from lth.sweep.planning import Work
from lth.sweep.sources import source_of
from lth.sweep.stages import Clock, Evaluated, evaluate_unit, prune_unit, rewind_unit, train_unit

StageFunction = Callable[..., Any]
"""`prune_unit`, `rewind_unit`, `train_unit` or `evaluate_unit`."""


class Call(Protocol):
    """Runs a stage where it likes, and adds the data. What it returns has the stage's `seconds`, and of all stages but
    the last the `result` for the next, or what stands for them where that runs."""

    def __call__(self, stage: StageFunction, job: Job, work: Work, **handed: Any) -> Any: ...


def run_unit(job: Job, work: Work, call: Call) -> Evaluated:
    """Prune, rewind, train, evaluate and commit a unit; the seconds are those of all stages by purpose.

    Seeds whose ticket was lost before are not trained; where all of them are, only their loss is committed.
    """
    clock = Clock()

    def run(stage: StageFunction, **handed: Any) -> Any:
        finished = call(stage, job, work, **handed)
        for purpose, spent in finished.seconds.items():
            clock.add(purpose, spent)
        return finished

    trained = pruned = None
    if work.seeds:
        if first_stage(work) is prune_unit:
            pruned = run(prune_unit).result
        ticket = run(rewind_unit, pruned=pruned).result
        trained = run(train_unit, ticket=ticket).result
    done = run(evaluate_unit, trained=trained).done
    return Evaluated(done, clock.seconds)


def first_stage(work: Work) -> StageFunction:
    """Tickets below level 0 begin by being cut, everything else that is trained by its starting weights."""
    if not work.seeds:
        return evaluate_unit
    return prune_unit if work.unit.arm == "ticket" and work.unit.level else rewind_unit


def sources(experiment: Experiment, work: Work) -> dict[StageFunction, list[tuple[str, str]]]:
    """The units that a unit reads from, each under the stage that reads it first: (experiment's id, unit's name).

    Arms with fresh weights read nothing that was trained.
    """
    ours, theirs = experiment.id, source_of(experiment).elsewhere or ""
    fresh, first = ARMS[work.unit.arm].fresh, first_stage(work)
    cut = [
        *_of(ours, work.masks_from, work.lost_in, {} if fresh else work.trained_from),
        *_of(theirs, work.source_tickets),
    ]
    start = [] if fresh else [*_of(ours, work.rewind_from), *_of(theirs, work.source_rewind_points)]
    if first is not prune_unit:
        return {first: list(dict.fromkeys([*cut, *start]))}
    return {
        first: list(dict.fromkeys(cut)),
        rewind_unit: list(dict.fromkeys(name for name in start if name not in cut)),
    }


def _of(experiment_id: str, *units_by_seed: Mapping[int, str]) -> list[tuple[str, str]]:
    return [(experiment_id, name) for units in units_by_seed for name in units.values()]
