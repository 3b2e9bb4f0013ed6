"""Scores other than accuracy: summaries, verdicts and paired differences, in the right direction."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scored_tables import less_is_better, scored

from lth.analysis import matches_down_to, paired_difference, single_score, summarise, verdicts
from lth.errors import LthError

TRAININGS = [
    *(("ticket", seed, 0, 0, 0.90 + seed / 100, 10) for seed in range(5)),
    *(("ticket", seed, 0, 1, 0.90 + seed / 100 - (0.001, 0.002, 0.0, -0.001, 0.001)[seed], 10) for seed in range(5)),
    *(("ticket", seed, 0, 2, 0.85 + seed / 100 - (0.001, 0.002, 0.0, -0.001, 0.001)[seed], 10) for seed in range(5)),
]
NUMBERS = ("difference", "low", "high", "p_not_worse", "p_worse", "p_equivalent", "p_different", "bootstrap_low")


def test_a_summary_names_its_score_and_keeps_accuracies_apart(levels) -> None:
    table = levels(TRAININGS)
    of_accuracy, of_r2 = summarise(table).to_pylist(), summarise(scored(table, "r2")).to_pylist()
    for accuracy, r2 in zip(of_accuracy, of_r2, strict=True):
        assert (accuracy["score"], r2["score"]) == ("accuracy", "r2")
        for part in ("at_early_stop_mean", "at_early_stop_low", "at_early_stop_high", "mean"):
            assert accuracy[f"test_score_{part}"] == accuracy[f"test_accuracy_{part}"] == r2[f"test_score_{part}"]
            assert r2[f"test_accuracy_{part}"] is None


def test_verdicts_of_another_score_are_those_of_its_values(levels) -> None:
    table = levels(TRAININGS)
    for accuracy, r2 in zip(
        verdicts(table, 0.005).to_pylist(), verdicts(scored(table, "r2"), 0.005).to_pylist(), strict=True
    ):
        assert (accuracy["score"], r2["score"]) == ("accuracy", "r2")
        assert accuracy["generalisation_gap"] == pytest.approx(0.05) and r2["generalisation_gap"] is None
        assert accuracy["drop_below_02pp"] is not None and r2["drop_below_02pp"] is None
        only = {"score", "generalisation_gap", "drop_below_02pp"}
        assert {name: r2[name] for name in r2 if name not in only} == {
            name: accuracy[name] for name in accuracy if name not in only
        }
    auroc = verdicts(scored(table, "auroc"), 0.005)
    assert auroc["drop_below_02pp"].to_pylist() == [True, False], "in percent as accuracy is"


def test_where_less_is_better_everything_turns_round(levels) -> None:
    table = levels(TRAININGS)
    expected = verdicts(table, 0.005)
    with less_is_better():
        errors = scored(table, "rmse", lambda accuracy: 1 - accuracy)
        found = verdicts(errors, 0.005)
        assert found["verdict"].to_pylist() == expected["verdict"].to_pylist() == ["matching", "not matching"]
        last, reference = matches_down_to(found), matches_down_to(expected)
        assert last is not None and reference is not None and last["level"] == reference["level"] == 1
        for name in NUMBERS:
            assert found[name].to_pylist() == pytest.approx(expected[name].to_pylist(), abs=1e-9)
        assert found["within_one_sd"].to_pylist() == expected["within_one_sd"].to_pylist() == [True, False]
        # Smaller errors at level 1 than at level 2: better, so positive.
        better = paired_difference(errors, "ticket", 1, "ticket", 2)
        assert better.mean == pytest.approx(0.05) and better.low > 0
        assert paired_difference(errors, "ticket", 1, "ticket", 2, alternative="greater").p_value == 1 / 32
        # A column that is no score stays as it is.
        late = errors.set_column(
            errors.column_names.index("early_stop_step"), "early_stop_step", pa.array(np.repeat([30, 20, 10], 5))
        )
        assert paired_difference(late, "ticket", 1, "ticket", 2, "early_stop_step").mean == 10


def test_several_scores_and_unknown_ones_are_said_in_one_line(levels) -> None:
    table = scored(levels(TRAININGS), "r2")
    mixed = pa.concat_tables([table, scored(levels([("reinit", 0, 0, 1, 0.5, 10)]), "auroc")])
    with pytest.raises(LthError, match=r"toy-0123456789 holds several scores \(auroc, r2\); an experiment has one"):
        summarise(mixed)
    with pytest.raises(LthError, match=r"the table holds several scores \(auroc, r2\)"):
        verdicts(mixed, 0.005)
    other = scored(levels([("ticket", 0, 0, 0, 0.5, 10)], experiment="other-0123456789"), "auroc")
    assert summarise(pa.concat_tables([table, other]))["score"].to_pylist() == ["auroc", "r2", "r2", "r2"]
    with pytest.raises(LthError, match="the score 'mine' is not registered here.*name the experiment by its file"):
        verdicts(scored(levels(TRAININGS), "mine"), 0.005)
    assert single_score(table).label == "R²"


def test_a_missing_score_is_named_as_it_is_called(levels) -> None:
    table = scored(levels(TRAININGS), "r2")
    broken = pa.array([None, *table["test_score"].to_pylist()[1:]])
    table = table.set_column(table.column_names.index("test_score"), "test_score", broken)
    with pytest.raises(LthError, match=r"test_score is missing for arm 'ticket', level 0, seed 0"):
        summarise(table)
