"""Verdicts: by hand, with diverged seeds, and how often they are right in simulated sweeps."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scored_tables import scored

from lth.analysis import (
    VERDICTS,
    SweepStart,
    confidence_sequence,
    e_value,
    first_undecided,
    margin_test,
    matches_down_to,
    paired_difference,
    paired_log_ratio,
    verdicts,
)
from lth.analysis.equivalence import FIRST_LOOK
from lth.analysis.starts import UNKNOWN
from lth.errors import LthError


def sweep(levels, accuracies: dict[tuple[str, int], list[float | None]]) -> pa.Table:
    """Trainings of seeds 0, 1, ... by (arm, level); the ticket of level n stops early at step 1000 / (n + 1)."""
    return levels(
        [
            (arm, seed, 0, level, accuracy, None if accuracy is None else 1000 // (level + 1))
            for (arm, level), values in accuracies.items()
            for seed, accuracy in enumerate(values)
        ]
    )


def row(table: pa.Table, **where: object) -> dict:
    found = [each for each in table.to_pylist() if all(each[name] == value for name, value in where.items())]
    assert len(found) == 1, found
    return found[0]


DENSE = [0.950, 0.951, 0.952, 0.953, 0.954]
THREE_LEVELS = {
    ("ticket", 0): DENSE,
    ("ticket", 1): [0.950, 0.952, 0.954, 0.956, 0.958],  # + 0 to 0.4 points
    ("reinit", 1): [0.930, 0.932, 0.930, 0.934, 0.935],
    ("ticket", 2): [0.940, 0.941, 0.943, 0.944, 0.946],  # - 1 to 0.8 points
    ("reinit", 2): [0.900, 0.905, 0.950, 0.910, 0.958],
}


def test_verdicts_by_hand(levels) -> None:
    table = verdicts(sweep(levels, THREE_LEVELS), 0.005)
    assert table.schema.equals(VERDICTS) and table.num_rows == 6
    first = row(table, level=1, arm="ticket", against="ticket")
    assert (first["against_level"], first["n"], first["verdict"], first["more_seeds"]) == (0, 5, "matching", None)
    assert first["difference"] == pytest.approx(0.002) and first["p_not_worse"] == pytest.approx(0.000293, abs=1e-6)
    assert (first["low"], first["high"]) == pytest.approx((0.002 - 0.001963, 0.002 + 0.001963), abs=1e-6)
    assert first["low"] < first["bootstrap_low"] < 0.002 < first["bootstrap_high"] < first["high"]
    # Signs 0 + + + +: 2 of 16 flips of the others are as extreme, and the 0 doubles both. Two levels, so Holm doubles.
    assert first["p_different"] == 2 / 16
    assert first["generalisation_gap"] == pytest.approx(0.05)
    assert first["speedup"] == pytest.approx(2) and first["speedup_n"] == 5
    assert row(table, level=2, arm="ticket", against="ticket")["verdict"] == "not matching"
    assert row(table, level=2, arm="ticket", against="ticket")["p_different_holm"] == pytest.approx(2 * 2 / 32)
    assert row(table, level=1, arm="reinit", against="ticket")["verdict"] == "not matching"
    unclear = row(table, level=2, arm="reinit", against="ticket")
    assert unclear["verdict"] == "undecided" and unclear["more_seeds"] >= 1
    assert row(table, level=2, arm="ticket", against="reinit")["against_level"] == 2
    assert matches_down_to(table)["level"] == 1 and matches_down_to(table, "reinit") is None


def test_it_agrees_with_the_paired_comparisons(levels) -> None:
    data = sweep(levels, THREE_LEVELS)
    found = row(verdicts(data, 0.005), level=2, arm="ticket", against="reinit")
    plain = paired_difference(data, "ticket", 2, "reinit", 2)
    ratio = paired_log_ratio(data, "reinit", 2, "ticket", 2)
    assert (found["difference"], found["low"], found["high"], found["p_different"]) == (
        plain.mean,
        plain.low,
        plain.high,
        plain.p_value,
    )
    assert (found["speedup"], found["speedup_n"]) == (ratio.ratio, ratio.n)


def test_conventions_that_never_decide_stand_beside_it(levels) -> None:
    """A drop of 0.15 points in every seed, where the dense network varies by 0.16: both conventions say yes, the test
    at a margin of 0.1 points says no."""
    table = verdicts(sweep(levels, {("ticket", 0): DENSE, ("ticket", 1): [value - 0.0015 for value in DENSE]}), 0.001)
    found = row(table, level=1)
    assert found["verdict"] == "not matching" and found["within_one_sd"] and found["drop_below_02pp"]
    worse = verdicts(sweep(levels, {("ticket", 0): DENSE, ("ticket", 1): [value - 0.0025 for value in DENSE]}), 0.01)
    assert (row(worse, level=1)["verdict"], row(worse, level=1)["within_one_sd"]) == ("matching", False)
    assert not row(worse, level=1)["drop_below_02pp"]


def test_a_ticket_that_diverges_where_dense_does_not_is_a_failure(levels) -> None:
    """Three of five: the tests see -0.951, -0.953 and -0.954 beside +0 and +0.002. By hand: mean -0.5712, sd 0.5225, so
    t to the margin is (-0.5712 + 0.005) / (0.5225 / sqrt 5) = -2.42 with 4 degrees of freedom, p = 0.036."""
    broken = {**THREE_LEVELS, ("ticket", 1): [0.950, None, 0.954, None, None]}
    table = verdicts(sweep(levels, broken), 0.005)
    found = row(table, level=1, arm="ticket", against="ticket")
    assert (found["n"], found["failed"], found["diverged"], found["diverged_against"]) == (2, 3, 3, 0)
    assert found["difference"] == pytest.approx(0.001)  # of those that finished
    assert found["verdict"] == "not matching" and found["p_worse"] == pytest.approx(0.036, abs=0.001)
    assert found["within_one_sd"] is None and found["drop_below_02pp"] is None
    assert matches_down_to(table) is None
    assert row(table, level=1, arm="reinit", against="ticket")["failed"] == 0  # it is compared with the dense network
    assert row(table, level=1, arm="ticket", against="reinit")["failed"] == 3


@pytest.mark.parametrize("lost", [1, 2, 3, 4, 5])
def test_no_number_of_diverged_tickets_of_five_matches(levels, lost: int) -> None:
    """Those that finish are half a point better than dense, all of them."""
    ticket = [None] * lost + [value + 0.005 for value in DENSE[lost:]]
    found = row(verdicts(sweep(levels, {("ticket", 0): DENSE, ("ticket", 1): ticket}), 0.005), level=1)
    assert (found["n"], found["failed"]) == (5 - lost, lost)
    assert found["verdict"] == ("not matching" if lost > 2 else "undecided")
    if lost == 5:
        assert found["difference"] is None and found["density"] is not None


def test_a_dense_network_that_diverges_too_is_no_failure_of_the_ticket(levels) -> None:
    """Nor is it a pair: the seed is left out, and counted on both sides."""
    table = verdicts(
        sweep(levels, {("ticket", 0): [None, *DENSE[1:]], ("ticket", 1): [None, *DENSE[1:4], None]}), 0.005
    )
    found = row(table, level=1)
    assert (found["n"], found["failed"], found["diverged"], found["diverged_against"]) == (3, 1, 2, 1)
    lucky = row(verdicts(sweep(levels, {("ticket", 0): [None, *DENSE[1:]], ("ticket", 1): DENSE}), 0.005), level=1)
    assert (lucky["n"], lucky["failed"], lucky["diverged_against"]) == (4, 0, 1)  # helps the ticket nowhere


def test_of_a_score_without_a_worst_one_failure_is_infinitely_bad(levels) -> None:
    data = scored(sweep(levels, {("ticket", 0): DENSE, ("ticket", 1): [*DENSE[:4], None]}), "r2")
    found = row(verdicts(data, 0.005), level=1)
    assert (found["verdict"], found["failed"], found["p_not_worse"], found["p_worse"]) == ("not matching", 1, 1, 0)
    assert found["p_different"] == 1


def test_a_diverged_draw_counts_within_its_seed(levels) -> None:
    """One of two draws of a control: the test sees half its accuracy, the mean the draw that finished."""
    trainings = [("ticket", seed, 0, 0, 0.95, 100) for seed in range(3)]
    trainings += [("ticket", seed, 0, 1, 0.95, 100) for seed in range(3)]
    for seed in range(3):
        trainings += [("reinit", seed, 0, 1, 0.95, 100), ("reinit", seed, 1, 1, None if seed == 0 else 0.95, 100)]
    found = row(verdicts(levels(trainings), 0.005), arm="reinit", against="ticket")
    assert (found["n"], found["failed"], found["diverged"], found["difference"]) == (3, 1, 1, 0)
    assert found["verdict"] == "undecided"


FEW = SweepStart(frozenset(range(5)), 3, frozenset({"ticket", "reinit"}), 0)
MORE = SweepStart(frozenset(range(8)), 3, frozenset({"ticket", "reinit"}), 1)


@pytest.mark.parametrize(
    ("seeds", "starts", "rule"),
    [
        (5, [], "fixed n"),  # nothing says that there was another look
        (5, [FEW], "fixed n"),
        (3, [FEW], "anytime"),  # a sweep that has not ended is looked at again
        (8, [FEW, MORE], "anytime"),
        (8, [MORE], "fixed n"),
        (5, [FEW, MORE], "fixed n"),  # started again, and nothing of it is committed yet
        (8, [MORE, replace(FEW, place=2)], "fixed n"),  # a part of what was there
        (8, [replace(FEW, place=0), replace(MORE, place=0)], "anytime"),  # of which nothing says who was first
        (8, [replace(FEW, arms=frozenset({"reinit"})), MORE], "fixed n"),  # the first had no such arm,
        (8, [replace(FEW, levels=0), MORE], "fixed n"),  # or not this level
        (5, [FEW, UNKNOWN], "anytime"),
    ],
)
def test_seeds_that_were_added_are_judged_by_the_rule_for_any_look(levels, seeds: int, starts, rule: str) -> None:
    base = [0.95 + 0.001 * seed for seed in range(seeds)]
    better = [value + 0.001 * (seed % 3) for seed, value in enumerate(base)]
    found = row(verdicts(sweep(levels, {("ticket", 0): base, ("ticket", 1): better}), 0.005, starts=starts), level=1)
    assert found["rule"] == rule
    if rule == "fixed n":
        assert found["p_not_worse"] == margin_test(np.subtract(better, base), 0.005).not_worse
        assert found["verdict"] == "matching"
    else:
        e = e_value(np.subtract(better, base) + 0.005)
        assert found["p_not_worse"] == pytest.approx(min(1, 4 / e)) and FIRST_LOOK == 0.04
        assert found["verdict"] == ("matching" if e > 100 else "undecided")


def test_by_the_rule_for_any_look_the_interval_is_a_confidence_sequence(levels) -> None:
    base, better = [0.95] * 12, [0.951, 0.949, 0.952] * 4
    data = sweep(levels, {("ticket", 0): base, ("ticket", 1): better})
    found = row(verdicts(data, 0.005, starts=[FEW]), level=1)
    expected = confidence_sequence(np.subtract(better, base))
    assert (found["low"], found["high"]) == (expected.low, expected.high)
    fixed = row(verdicts(data, 0.005), level=1)
    assert found["low"] < fixed["low"] and fixed["high"] < found["high"]
    few = row(verdicts(data.filter(pc.less(data["seed"], 4)), 0.005, starts=[FEW]), level=1)
    assert few["low"] is None and few["high"] is None and few["difference"] is not None  # it is infinite yet


def test_the_claim_can_move_where_it_ends_undecided(levels) -> None:
    unclear = [0.944, 0.955, 0.945, 0.956, 0.946]
    ends = {("ticket", 0): DENSE, ("ticket", 1): DENSE, ("ticket", 2): unclear, ("ticket", 3): DENSE}
    assert first_undecided(verdicts(sweep(levels, ends), 0.005))["level"] == 2
    assert first_undecided(verdicts(sweep(levels, THREE_LEVELS), 0.005)) is None  # level 2 does not match
    worse = {**THREE_LEVELS, ("ticket", 3): unclear}
    assert first_undecided(verdicts(sweep(levels, worse), 0.005)) is None  # what follows moves nothing
    assert first_undecided(verdicts(sweep(levels, {("ticket", 0): DENSE, ("ticket", 1): DENSE}), 0.005)) is None


def test_an_early_stop_at_the_last_step_is_a_bound(levels) -> None:
    """Steps 1000 of the dense network against 500 of level 1, whose training was of 500 steps, or of 600."""
    data = sweep(levels, {("ticket", 0): DENSE, ("ticket", 1): DENSE, ("reinit", 1): DENSE})

    def bounded(dense: int, ticket: int) -> tuple[object, ...]:
        steps = [dense if level == 0 else ticket for level in data["level"].to_pylist()]
        found = row(
            verdicts(data.append_column("steps", pa.array(steps)), 0.005), level=1, arm="ticket", against="ticket"
        )
        return found["speedup"], found["speedup_bound"], found["late"], found["late_against"]

    assert bounded(1200, 600) == (pytest.approx(2), None, 0, 0)
    assert bounded(1200, 500) == (pytest.approx(2), "at most", 5, 0)
    assert bounded(1000, 600) == (pytest.approx(2), "at least", 0, 5)
    assert bounded(1000, 500) == (pytest.approx(2), "no bound", 5, 5)


def test_two_arms_that_stop_at_step_0_have_no_speed_up_and_give_no_warning(levels) -> None:
    trainings = [
        (arm, seed, 0, level, 0.9 + seed / 100, 0) for seed in range(3) for arm, level in [("ticket", 0), ("ticket", 1)]
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = row(verdicts(levels(trainings), 0.005), level=1)
    assert (found["speedup"], found["speedup_n"], found["speedup_bound"]) == (None, 0, None)


def test_one_seed_decides_nothing(levels) -> None:
    found = row(verdicts(sweep(levels, {("ticket", 0): [0.95], ("ticket", 1): [0.5]}), 0.005), level=1)
    assert found["verdict"] == "undecided"
    assert [found[name] for name in ("more_seeds", "p_not_worse", "low", "within_one_sd")] == [None] * 4


def test_a_gap_ends_the_claim(levels) -> None:
    """Level 3 matches again after level 2 did not: the claim goes down to level 1 only."""
    table = verdicts(sweep(levels, {**THREE_LEVELS, ("ticket", 3): DENSE}), 0.005)
    assert row(table, level=3, arm="ticket", against="ticket")["verdict"] == "matching"
    assert matches_down_to(table)["level"] == 1


def test_the_order_of_rows_does_not_matter_and_the_result_is_always_the_same(levels) -> None:
    data = sweep(levels, THREE_LEVELS)
    again = data.take(np.random.default_rng(0).permutation(data.num_rows))
    assert verdicts(data, 0.005).equals(verdicts(again, 0.005))


def test_a_margin_must_be_positive_and_the_experiment_one(levels) -> None:
    with pytest.raises(LthError, match="margin must be above 0"):
        verdicts(sweep(levels, THREE_LEVELS), 0)
    assert verdicts(sweep(levels, {("ticket", 0): DENSE}), 0.005).num_rows == 0


@pytest.mark.parametrize(("shift", "matching", "not_matching"), [(-0.005, 0.04, 0.04), (0.0, 0.82, 0.0)])
def test_how_often_a_simulated_sweep_is_right(levels, shift: float, matching: float, not_matching: float) -> None:
    """Exactly at the margin either verdict is wrong, and comes with probability 0.04; a ticket as good as dense is
    called matching with the power that the t test has (0.82: n = 5, margin 1.5 standard deviations)."""
    generator, said = np.random.default_rng(5), []
    for _ in range(50):
        base = generator.normal(0.95, 0.01, 5)
        trainings = {("ticket", 0): base.tolist()}
        for level in range(1, 21):
            trainings["ticket", level] = (base + shift + generator.normal(0, 0.005 / 1.5, 5)).tolist()
        said += verdicts(sweep(levels, trainings), 0.005)["verdict"].to_pylist()
    assert said.count("matching") / 1000 == pytest.approx(matching, abs=0.04)
    assert said.count("not matching") / 1000 == pytest.approx(not_matching, abs=0.03)


def test_a_level_that_is_not_committed_ends_the_claim(levels) -> None:
    table = verdicts(sweep(levels, {("ticket", 0): DENSE, ("ticket", 1): DENSE, ("ticket", 3): DENSE}), 0.005)
    assert table["verdict"].to_pylist() == ["matching", "matching"] and matches_down_to(table)["level"] == 1
