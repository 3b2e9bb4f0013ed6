"""A unit's four stages in their order, whoever calls them, and what each reads from other units."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lth.experiment import Experiment, load_experiment
from lth.store import Unit
from lth.sweep.handover import Job
from lth.sweep.planning import Done, work
from lth.sweep.setup import DataFacts
from lth.sweep.stages import evaluate_unit, prune_unit, rewind_unit
from lth.sweep.unit import run_unit, sources

JOB = Job(load_experiment("smoke"), DataFacts((1, 8, 8), 10, 1437), "memory://")


def smoke(*settings: str) -> Experiment:
    return load_experiment("smoke", settings)


def committed(*lost: int) -> dict[tuple[str, int, int, int], Done]:
    """Three seeds: the dense networks in one unit, tickets of level 1 in two."""
    done = {("ticket", 0, 0, seed): Done("dense", False, True) for seed in range(3)}
    done |= {("ticket", 0, 1, seed): Done("first" if seed < 2 else "second", seed in lost, True) for seed in range(3)}
    return done | {("ticket", 0, 2, seed): Done("deep", seed in lost, seed not in lost) for seed in range(3)}


@pytest.mark.parametrize(
    ("unit", "lost", "order"),
    [
        (Unit("ticket", 0, 0, (0,)), (), ["rewind_unit", "train_unit", "evaluate_unit"]),
        (Unit("ticket", 0, 2, (0,)), (), ["prune_unit", "rewind_unit", "train_unit", "evaluate_unit"]),
        (Unit("reinit", 0, 2, (0,)), (), ["rewind_unit", "train_unit", "evaluate_unit"]),
        (Unit("ticket", 0, 2, (0,)), (0,), ["evaluate_unit"]),
    ],
)
def test_each_stage_is_handed_what_the_one_before_it_made(unit: Unit, lost: tuple[int, ...], order: list[str]) -> None:
    called: list[tuple[str, dict[str, Any]]] = []

    def call(stage: Any, job: Job, work: Any, **handed: Any) -> Any:
        called.append((stage.__name__, handed))
        return SimpleNamespace(
            result=f"of {stage.__name__}", done="done", seconds={"training": 1.0, stage.__name__: 2.0}
        )

    finished = run_unit(JOB, work(JOB.experiment, unit, committed(*lost)), call)
    assert [name for name, _ in called] == order and finished.done == "done"
    assert finished.seconds == {"training": float(len(order)), **dict.fromkeys(order, 2.0)}
    if order[0] == "prune_unit":
        assert called[1][1] == {"pruned": "of prune_unit"}
    if len(order) > 1:
        assert called[-2][1] == {"ticket": "of rewind_unit"}
        assert called[-1][1] == {"trained": "of train_unit"}
    else:
        assert called == [("evaluate_unit", {"trained": None})]


LATE = "rewinding={kind: step, step: 5it}"


@pytest.mark.parametrize(
    ("settings", "unit", "lost", "expected"),
    [
        ((), Unit("ticket", 0, 0, (0, 1, 2)), (), {rewind_unit: []}),
        ((), Unit("ticket", 0, 1, (0, 1, 2)), (), {prune_unit: ["dense"], rewind_unit: []}),
        ((), Unit("ticket", 0, 2, (0, 1, 2)), (), {prune_unit: ["first", "second"], rewind_unit: []}),
        ((), Unit("random_mask", 0, 1, (1, 2)), (), {rewind_unit: ["first", "second"]}),
        ((LATE,), Unit("ticket", 0, 1, (0,)), (), {prune_unit: ["dense"], rewind_unit: []}),
        ((LATE,), Unit("ticket", 0, 2, (0,)), (), {prune_unit: ["first"], rewind_unit: ["dense"]}),
        ((LATE,), Unit("random_mask", 0, 2, (0,)), (), {rewind_unit: ["deep", "dense"]}),
        ((LATE,), Unit("reinit", 0, 2, (0,)), (), {rewind_unit: ["deep"]}),
        (("rewinding={kind: learning_rate}",), Unit("random_mask", 0, 2, (0,)), (), {rewind_unit: ["deep", "first"]}),
        (("rewinding={kind: learning_rate}",), Unit("reinit", 0, 2, (0,)), (), {rewind_unit: ["deep"]}),
        (("pruning.schedule=one_shot",), Unit("ticket", 0, 2, (0,)), (), {prune_unit: ["dense"], rewind_unit: []}),
        ((), Unit("ticket", 0, 2, (0, 2)), (2,), {prune_unit: ["first", "second"], rewind_unit: []}),
        ((), Unit("ticket", 0, 2, (2,)), (2,), {evaluate_unit: ["second"]}),
    ],
)
def test_a_unit_names_the_units_that_it_reads_from_once(
    settings: tuple[str, ...], unit: Unit, lost: tuple[int, ...], expected: dict[Any, list[str]]
) -> None:
    experiment = smoke(*settings)
    found = sources(experiment, work(experiment, unit, committed(*lost)))
    assert found == {stage: [(experiment.id, name) for name in names] for stage, names in expected.items()}
