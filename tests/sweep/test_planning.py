"""What is planned, what each unit needs, and what is left after an interruption."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lth.experiment import Experiment, load_experiment
from lth.store import Unit
from lth.sweep.planning import (
    Done,
    Key,
    needs,
    plan,
    planned_count,
    ready,
    trainings_behind,
    work,
)


def experiment(*settings: str) -> Experiment:
    return load_experiment("smoke", settings)


def keys_of(units: list[Unit]) -> list[Key]:
    return [(unit.arm, unit.draw, unit.level, seed) for unit in units for seed in unit.seeds]


def everything(spec: Experiment, seeds: range) -> set[Key]:
    controls = {
        (arm, draw, level, seed)
        for arm, draw in spec.draws()
        for level in range(1, spec.pruning.levels + 1)
        for seed in seeds
    }
    return controls | {("ticket", 0, 0, seed) for seed in seeds}


def test_a_sweep_by_hand() -> None:
    spec = experiment("pruning.levels=1", "arms=[random_mask, ticket, reinit:2]")
    units = plan(spec, (0, 1, 2), (), 2)
    assert [(unit.arm, unit.draw, unit.level, unit.seeds) for unit in units] == [
        ("ticket", 0, 0, (0, 1)),
        ("ticket", 0, 0, (2,)),
        ("ticket", 0, 1, (0, 1)),
        ("ticket", 0, 1, (2,)),
        ("random_mask", 0, 1, (0, 1)),
        ("random_mask", 0, 1, (2,)),
        ("reinit", 0, 1, (0, 1)),
        ("reinit", 0, 1, (2,)),
        ("reinit", 1, 1, (0, 1)),
        ("reinit", 1, 1, (2,)),
    ]
    assert planned_count(spec, 3) == 15 == len(keys_of(units))


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 3), st.data())
def test_exactly_what_is_missing_is_planned(seeds: int, size: int, levels: int, data: st.DataObject) -> None:
    spec = experiment(f"pruning.levels={levels}")
    wanted = everything(spec, range(seeds))
    committed = data.draw(st.sets(st.sampled_from(sorted(wanted))))
    planned = keys_of(plan(spec, tuple(range(seeds)), committed, size))
    assert len(planned) == len(set(planned))
    assert set(planned) == wanted - committed
    assert planned_count(spec, seeds) == len(wanted)


KEEPING = ["learning_rate", "fine_tune", "none"]  # trained weights stay
KINDS = ["init", "step, step: 5it", *KEEPING]


@given(
    st.integers(1, 9),
    st.integers(1, 4),
    st.sampled_from(["iterative", "one_shot"]),
    st.sampled_from([*KINDS, "at_initialisation"]),
)
def test_every_unit_becomes_ready_and_never_before_its_needs(seeds: int, size: int, schedule: str, kind: str) -> None:
    early = kind == "at_initialisation"
    spec = experiment(
        f"pruning.schedule={schedule}",
        *(["pruning.when=at_initialisation"] if early else [f"rewinding={{kind: {kind}}}"]),
    )
    waiting, done = plan(spec, tuple(range(seeds)), (), size), {}
    while waiting:
        able = [unit for unit in waiting if ready(spec, unit, done)]
        assert able, "nothing is ready, though units wait"
        unit = able[-1]
        todo = work(spec, unit, done)
        assert todo.seeds == unit.seeds and not todo.lost
        if unit.level:
            ticket = unit.arm == "ticket"
            # A mask is cut from the one before, or from nothing but the seed.
            assert set(todo.masks_from) == (set() if early and ticket and schedule == "one_shot" else set(unit.seeds))
            assert bool(todo.trained_from) == (not early and (ticket or kind in KEEPING))
            assert bool(todo.rewind_from) == (kind == "step, step: 5it")
            parent = unit.level - 1 if schedule == "iterative" else 0
            assert all(f"L{parent:02}" in name for name in todo.trained_from.values())
        waiting.remove(unit)
        done.update({(unit.arm, unit.draw, unit.level, seed): Done(unit.name, False, True) for seed in unit.seeds})
    assert set(done) == everything(spec, range(seeds))


@pytest.mark.parametrize(("schedule", "parent"), [("iterative", 2), ("one_shot", 0)])
@pytest.mark.parametrize("kind", KEEPING)
def test_where_trained_weights_stay_controls_wait_for_them_too(kind: str, schedule: str, parent: int) -> None:
    spec = experiment(f"pruning.schedule={schedule}", f"rewinding={{kind: {kind}}}", "pruning.levels=3")

    assert needs(spec, Unit("random_mask", 0, 3, (0,))) == {("ticket", 0, 3), ("ticket", 0, parent)}
    assert needs(spec, Unit("ticket", 0, 3, (0,))) == {("ticket", 0, parent)}


def test_how_many_trainings_lead_to_a_ticket() -> None:
    spec = experiment()
    assert [trainings_behind(spec, level) for level in (0, 1, 2)] == [1, 2, 3]
    assert [trainings_behind(experiment("pruning.schedule=one_shot"), level) for level in (0, 1, 2)] == [1, 2, 2]
    assert [trainings_behind(experiment("pruning.when=at_initialisation"), level) for level in (0, 1, 2)] == [1, 1, 1]


def test_one_shot_levels_need_the_dense_network_only() -> None:
    spec = experiment("pruning.schedule=one_shot")
    assert needs(spec, Unit("ticket", 0, 2, (0,))) == {("ticket", 0, 0)}
    assert needs(experiment(), Unit("ticket", 0, 2, (0,))) == {("ticket", 0, 1)}
    assert needs(spec, Unit("reinit", 0, 2, (0,))) == {("ticket", 0, 2)}


def test_a_unit_reads_each_seed_from_whichever_unit_holds_it() -> None:
    spec = experiment()
    done = {("ticket", 0, 0, 0): Done("unit-a", False, True), ("ticket", 0, 0, 1): Done("unit-b", False, True)}
    todo = work(spec, Unit("ticket", 0, 1, (0, 1)), done)
    assert todo.trained_from == {0: "unit-a", 1: "unit-b"} == todo.masks_from


def test_seeds_whose_ticket_diverged_are_lost_and_only_those() -> None:
    spec = experiment()
    done = {("ticket", 0, 0, 0): Done("a", False, True), ("ticket", 0, 0, 1): Done("a", True, True)}
    todo = work(spec, Unit("ticket", 0, 1, (0, 1)), done)
    assert todo.seeds == (0,) and todo.lost == (1,) and set(todo.trained_from) == {0}
    # A control of level 1 needs a mask of level 1: seed 1 never got one, seed 0 has one though its training diverged.
    done |= {("ticket", 0, 1, 0): Done("b", True, True), ("ticket", 0, 1, 1): Done("b", True, False)}
    todo = work(spec, Unit("reinit", 0, 1, (0, 1)), done)
    assert todo.seeds == (0,) and todo.lost == (1,)
