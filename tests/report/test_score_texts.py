"""How scores are written: R² as a number, AUROC in percent, an error of which less is better; each in its own unit."""

from __future__ import annotations

import io
from collections.abc import Callable

import pyarrow as pa
import pytest
from rich.console import Console
from scored_tables import less_is_better, scored

from flows.sweep import level_line
from lth.analysis import summarise, verdicts
from lth.errors import LthError
from lth.report import (
    caveats,
    claim,
    comparison_figure,
    comparison_table,
    markdown_table,
    score_figure,
    verdict_markdown,
)
from lth.report.score_texts import ScoreText
from lth.store import Unit
from lth.sweep.planning import Done

TOY = {"ticket": [0.450, 0.452, 0.448, 0.30], "reinit": [None, 0.44, 0.43, 0.25]}
NOISE = (-0.002, 0.001, 0.0, 0.0005, 0.0005)


def printed(table: object) -> str:
    stream = io.StringIO()
    Console(file=stream, width=100).print(table)
    return stream.getvalue()


def test_numbers_have_digits_of_their_size() -> None:
    r2, accuracy = ScoreText.named("r2"), ScoreText.named("accuracy")
    assert (accuracy.value(0.98123), accuracy.difference(-0.0012), accuracy.margin(0.005)) == (
        "98.12",
        "-0.12",
        "0.5 points",
    )
    assert (r2.value(0.45123), r2.difference(0.00123), r2.margin(0.005)) == ("0.4512", "+0.0012", "0.005 of R²")
    assert (r2.value(0.0), r2.value(1.0), r2.value(-3.14159), r2.value(152.345), r2.value(15234.5)) == (
        "0.0000",
        "1.000",
        "-3.142",
        "152.3",
        "15234",
    )
    assert (r2.value(0.000041234), r2.half(0.1, 0.5, 152.3)) == ("0.000041", "0.2")
    assert r2.over_seeds([0.4, 0.5]) == "R² 0.4500 ± 0.6353" and r2.over_seeds([0.4]) == "R² 0.4000"
    assert ScoreText.named("auroc").over_seeds([0.9]) == "AUROC 90.00%"


def test_claims_and_tables_of_r2(sweep: Callable[..., pa.Table]) -> None:
    levels = scored(sweep(TOY, offsets=NOISE), "r2")
    judged = verdicts(levels, 0.005)
    assert claim(judged) == (
        "The ticket is not worse than the dense network by more than 0.005 of R² down to 64% of the weights (level 2 "
        "of 3): -0.0020 [-0.0020, -0.0020] of R² there, and its early stop comes at 0.96 times the step of the "
        "dense network [0.96, 0.96], n = 5."
    )
    assert caveats(verdicts(levels, 0.005, declared=False))[0].startswith("The margin of 0.005 of R² was chosen after")
    text = verdict_markdown(judged)
    differences = "Test R² at early stop, differences paired by seed ± half the 95% t interval. Matching: not worse"
    assert "| 3 | 51.2% | -0.1500 ±0.0000<br>not matching |" in text and differences in text
    assert "points" not in text and "%" in text
    table = markdown_table(summarise(levels))
    assert "Test R² at early stop: mean ± half the 95% t interval over n = 5 seeds." in table
    assert "**0.4520 ±0.0015**" in table and "accuracy" not in table


def test_claims_of_auroc_are_in_points(sweep: Callable[..., pa.Table]) -> None:
    levels = scored(sweep(TOY, offsets=NOISE), "auroc")
    assert "by more than 0.5 points down to 64%" in claim(verdicts(levels, 0.005))
    assert "Test AUROC at early stop in %: mean" in markdown_table(summarise(levels))


def test_where_less_is_better_the_best_is_the_least(sweep: Callable[..., pa.Table]) -> None:
    with less_is_better():
        levels = scored(sweep(TOY, offsets=NOISE), "rmse", lambda accuracy: 100 * (1 - accuracy))
        judged = verdicts(levels, 0.5)
        assert "not worse than the dense network by more than 0.5 of RMSE down to 64%" in claim(judged)
        assert "-0.2000 [-0.2000, -0.2000] of RMSE there" in claim(judged), "worse by 0.2"
        assert "paired by seed, turned so that better is positive, ± half" in verdict_markdown(judged)
        table = markdown_table(summarise(levels))
        assert "**54.80 ±0.15**\\*<br>@4,900 | 56.00 ±0.15<br>" in table, "level 1: ticket and reinit"
        figure = score_figure(levels)
        assert len(figure.axes) == 2, "level 3 is worse by more than a tenth"
        assert figure.axes[0].get_ylabel() == "test RMSE at early stop"
        assert figure.axes[0].get_ylim()[1] < 60 < 75 < figure.axes[1].get_ylim()[1]


def test_experiments_of_several_scores_stand_side_by_side_and_share_no_axis(sweep: Callable[..., pa.Table]) -> None:
    one, other = sweep(TOY, offsets=NOISE), scored(sweep(TOY, offsets=NOISE, experiment="other-0123456789"), "r2")
    one = scored(one, "auroc")
    both = pa.concat_tables([one, other])
    judged = {"toy-0123456789": verdicts(one, 0.005), "other-0123456789": verdicts(other, 0.005)}
    text = printed(comparison_table(both, judged))
    rows = [line.split() for line in text.splitlines()]
    first, second = (next(row for row in rows if row[:1] == [name]) for name in judged)
    assert first == ["toy-0123456789", "AUROC", "5", "45.00", "±0.15", "64%", "30.00", "±0.15"]
    assert second == ["other-0123456789", "R²", "5", "0.4500", "±0.0015", "64%", "0.3000", "±0.0015"]
    assert "-0.20 points" in text and "-0.0020 of R²" in text
    assert "Test score at early stop (AUROC in %, differences in points), mean" in " ".join(text.split())
    with pytest.raises(LthError, match=r"several scores \(auroc, r2\) have no axis in common"):
        comparison_figure(both, list(judged))
    alone = printed(comparison_table(other, {"other-0123456789": judged["other-0123456789"]}))
    assert "Test R² at early stop, mean ± half" in " ".join(alone.split()) and "score" not in alone
    assert comparison_figure(other, ["other-0123456789"]).axes[0].get_ylabel() == "test R² at early stop"


def test_a_line_of_the_log_names_the_score() -> None:
    unit = Unit("ticket", 0, 2, (0, 1))
    line = level_line(unit, [Done("a", False, True, 0.64, value, "r2") for value in (0.4, 0.5)])
    assert line == "level 2 · ticket: 64% of the weights, test R² 0.4500 ± 0.6353 (n = 2)"
    line = level_line(unit, [Done("a", False, True, 0.64, 0.9812), Done("b", True, True)])
    assert line == "level 2 · ticket: 64% of the weights, test accuracy 98.12% (n = 1, 1 diverged)"
