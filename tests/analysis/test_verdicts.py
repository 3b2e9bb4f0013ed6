"""Verdicts: by hand, with diverged seeds, and how often they are right in simulated sweeps."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from lth.analysis import VERDICTS, matches_down_to, paired_difference, paired_log_ratio, verdicts
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


def test_diverged_trainings_are_counted_and_in_no_mean(levels) -> None:
    broken = {**THREE_LEVELS, ("ticket", 1): [0.950, None, 0.954, None, 0.958]}
    found = row(verdicts(sweep(levels, broken), 0.005), level=1, arm="ticket", against="ticket")
    assert (found["n"], found["diverged"], found["diverged_against"]) == (3, 2, 0)
    assert found["difference"] == pytest.approx(0.002)
    nothing = row(verdicts(sweep(levels, {("ticket", 0): DENSE, ("ticket", 1): [None] * 5}), 0.005), level=1)
    assert (nothing["n"], nothing["diverged"], nothing["verdict"]) == (0, 5, "undecided")
    assert nothing["difference"] is None and nothing["more_seeds"] is None and nothing["density"] is not None


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


@pytest.mark.parametrize(("shift", "matching", "not_matching"), [(-0.005, 0.05, 0.05), (0.0, 0.862, 0.0)])
def test_how_often_a_simulated_sweep_is_right(levels, shift: float, matching: float, not_matching: float) -> None:
    """Exactly at the margin either verdict is wrong, and comes once in twenty; a ticket as good as dense is called
    matching with the power that the t test has (0.862: n = 5, margin 1.5 standard deviations)."""
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
