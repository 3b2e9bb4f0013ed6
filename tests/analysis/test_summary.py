from __future__ import annotations

import pyarrow as pa
import pytest

from lth.analysis import SUMMARY_SCHEMA, summarise
from lth.errors import LthError
from lth.store.schemas import LEVELS

# Dense accuracies 0.90, 0.92, 0.94, 0.96, 0.98: mean 0.94, sd 0.0316228, half-width 2.776 * 0.0141421 = 0.03926.
DENSE = [("ticket", seed, 0, 0, 0.90 + 0.02 * seed, 1000 + 100 * seed) for seed in range(5)]


def row(summary: pa.Table, arm: str, level: int) -> dict:
    (found,) = (row for row in summary.to_pylist() if (row["arm"], row["level"]) == (arm, level))
    return found


def test_a_level_by_hand(levels) -> None:
    dense = row(summarise(levels(DENSE)), "ticket", 0)
    assert (dense["seeds"], dense["diverged"], dense["density"], dense["weights_remaining"]) == (5, 0, 1.0, 1000.0)
    assert dense["test_accuracy_at_early_stop_mean"] == pytest.approx(0.94)
    assert dense["test_accuracy_at_early_stop_low"] == pytest.approx(0.94 - 0.03926, abs=1e-5)
    assert dense["test_accuracy_at_early_stop_high"] == pytest.approx(0.94 + 0.03926, abs=1e-5)
    assert dense["test_accuracy_mean"] == pytest.approx(0.93)
    # steps 1000..1400: mean 1200, sd 158.11, half-width 2.776 * 70.711 = 196.3
    assert dense["early_stop_step_mean"] == 1200
    assert dense["early_stop_step_high"] == pytest.approx(1396.3, abs=0.1)


def test_draws_are_averaged_within_a_seed_first(levels) -> None:
    # Seed 0 has three draws with mean 0.6, seed 1 one of 0.8: the mean over seeds is 0.7, over rows 0.65.
    table = levels(
        [("reinit", 0, 0, 1, 0.5, 10), ("reinit", 0, 1, 1, 0.6, 20), ("reinit", 0, 2, 1, 0.7, 60),
         ("reinit", 1, 0, 1, 0.8, 50)]
    )  # fmt: skip
    reinit = row(summarise(table), "reinit", 1)
    assert reinit["seeds"] == 2
    assert reinit["test_accuracy_at_early_stop_mean"] == pytest.approx(0.7)
    assert reinit["early_stop_step_mean"] == 40


def test_diverged_trainings_are_counted_and_not_averaged(levels) -> None:
    table = levels([*DENSE, ("ticket", 5, 0, 0, None, None), ("reinit", 0, 0, 1, None, None)])
    dense, reinit = row(summarise(table), "ticket", 0), row(summarise(table), "reinit", 1)
    assert (dense["seeds"], dense["diverged"]) == (5, 1)
    assert dense["test_accuracy_at_early_stop_mean"] == pytest.approx(0.94)
    assert (reinit["seeds"], reinit["diverged"], reinit["density"]) == (0, 1, 0.8)
    assert reinit["test_accuracy_at_early_stop_mean"] is None and reinit["test_accuracy_mean"] is None


def test_a_diverged_draw_leaves_its_seed_the_other_draws(levels) -> None:
    table = levels([("reinit", 0, 0, 1, 0.5, 10), ("reinit", 0, 1, 1, None, None)])
    reinit = row(summarise(table), "reinit", 1)
    assert (reinit["seeds"], reinit["diverged"], reinit["test_accuracy_at_early_stop_mean"]) == (1, 1, 0.5)


def test_a_diverged_training_with_numbers_is_left_out_too(levels) -> None:
    table = levels([("ticket", 0, 0, 0, 0.9, 10), ("ticket", 1, 0, 0, 0.1, 10)])
    table = table.set_column(table.column_names.index("status"), "status", pa.array(["ok", "diverged"]))
    assert row(summarise(table), "ticket", 0)["test_accuracy_at_early_stop_mean"] == 0.9


def test_one_seed_has_a_mean_and_no_interval(levels) -> None:
    only = row(summarise(levels(DENSE[:1])), "ticket", 0)
    assert only["test_accuracy_at_early_stop_mean"] == 0.90
    assert only["test_accuracy_at_early_stop_low"] is None and only["early_stop_step_high"] is None


def test_densities_of_seeds_are_averaged(levels) -> None:
    table = levels(DENSE[:2])
    table = table.set_column(table.column_names.index("density"), "density", pa.array([0.50, 0.52]))
    assert row(summarise(table), "ticket", 0)["density"] == pytest.approx(0.51)


def test_a_training_held_by_two_units_counts_once(levels) -> None:
    # Otherwise draw 0 would weigh twice: (0.5 + 0.5 + 0.8) / 3 = 0.6.
    trainings = [("reinit", 0, 0, 1, 0.5, 10), ("reinit", 0, 1, 1, 0.8, 10), ("reinit", 0, 2, 1, None, None)]
    twice = row(summarise(levels([*trainings, trainings[0], trainings[2]])), "reinit", 1)
    assert (twice["seeds"], twice["diverged"]) == (1, 1)
    assert twice["test_accuracy_at_early_stop_mean"] == pytest.approx(0.65)


def test_order_of_rows_changes_no_bit_and_rows_come_sorted(levels) -> None:
    trainings = [
        (arm, seed, draw, level, 0.1 * seed + 0.07 * draw + 0.013 * level, 7 * seed)
        for seed in range(4)
        for draw in range(3)
        for level in (2, 1)
        for arm in ("ticket", "a_control")
    ]
    table = levels(trainings)
    expected = summarise(table)
    assert summarise(table.take([(17 * place) % 48 for place in range(48)])).equals(expected)
    assert [(row["level"], row["arm"]) for row in expected.to_pylist()] == [
        (1, "ticket"), (1, "a_control"), (2, "ticket"), (2, "a_control")]  # fmt: skip


def test_experiments_stay_apart_and_the_schema_carries_the_confidence(levels) -> None:
    both = pa.concat_tables([levels(DENSE, "a-0"), levels([("ticket", 0, 0, 0, 0.5, 1)], "b-1")])
    summary = summarise(both, confidence=0.9)
    assert summary["experiment_id"].to_pylist() == ["a-0", "b-1"]
    assert summary["test_accuracy_at_early_stop_mean"].to_pylist() == pytest.approx([0.94, 0.5])
    assert summary.schema.equals(SUMMARY_SCHEMA) and summary.schema.metadata == {b"confidence": b"0.9"}


def test_the_store_s_own_schema_is_understood(levels) -> None:
    rows = [{**dict.fromkeys(LEVELS.names), **row} for row in levels(DENSE).to_pylist()]
    stored = pa.Table.from_pylist(rows, schema=pa.schema([field.with_nullable(True) for field in LEVELS]))
    assert summarise(stored).equals(summarise(levels(DENSE)))


def test_no_rows_give_no_rows(levels) -> None:
    summary = summarise(levels(DENSE).slice(0, 0))
    assert summary.num_rows == 0 and summary.schema.equals(SUMMARY_SCHEMA)


@pytest.mark.parametrize("absent", [None, float("nan")])
def test_an_unmeasured_training_called_ok_is_named(levels, absent) -> None:
    table = levels(DENSE)
    broken = pa.array([0.9, 0.9, absent, 0.9, 0.9], pa.float64())
    table = table.set_column(table.column_names.index("test_accuracy"), "test_accuracy", broken)
    with pytest.raises(LthError, match=r"test_accuracy is missing for arm 'ticket', level 0, seed 2"):
        summarise(table)


def test_a_missing_column_and_an_unknown_status_are_named(levels) -> None:
    table = levels(DENSE)
    with pytest.raises(LthError, match="no column status"):
        summarise(table.drop_columns(["status"]))
    odd = table.set_column(table.column_names.index("status"), "status", pa.array(["done"] * 5))
    with pytest.raises(LthError, match="'done'"):
        summarise(odd)
