"""The claim, its caveats and the table of verdicts: what they say, word by word."""

from __future__ import annotations

import io
from dataclasses import replace

import pyarrow as pa
import pytest
from rich.console import Console

from lth.analysis import SweepStart, first_undecided, verdicts
from lth.errors import LthError
from lth.report import caveats, claim, comparison_table, verdict_markdown, verdict_table

TOY = {"ticket": [0.975, 0.977, 0.974, 0.96], "reinit": [None, 0.974, 0.97, 0.95]}
"""Every seed is shifted alike, so differences have no spread: +0.2, -0.1 and -1.5 points against dense."""


def text(table: pa.Table, arm: str = "ticket") -> str:
    stream = io.StringIO()
    Console(file=stream, width=80).print(verdict_table(table, arm))
    return stream.getvalue()


def test_the_claim_names_density_difference_speed_and_seeds(sweep) -> None:
    assert claim(verdicts(sweep(TOY), 0.005)) == (
        "The ticket is not worse than the dense network by more than 0.5 points down to 64% of the weights (level 2 of "
        "3): -0.10 [-0.10, -0.10] points there, and its early stop comes at 0.96 times the step of "
        "the dense network [0.96, 0.96], n = 5."
    )


def test_no_claim_is_said_as_such(sweep) -> None:
    worse = verdicts(sweep({"ticket": [0.975, 0.96]}), 0.005)
    assert claim(worse).startswith("The ticket is worse than the dense network by more than 0.5 points at level 1 alr")
    unsure = verdicts(sweep({"ticket": [0.975, 0.976]}, offsets=[0.0]), 0.005)
    assert "cannot be called not worse" in claim(unsure) and "n = 1" in claim(unsure)
    assert "Level 1 is undecided with n = 1; it needs at least two seeds." in caveats(unsure)


def test_caveats(sweep) -> None:
    plain = caveats(verdicts(sweep(TOY), 0.005))
    # Five seeds, three levels: 3 x 2 / 32; of eight 3 x 2 / 256 = 0.023, of seven 0.047 is not below 0.04.
    assert plain == [
        "At level 2 all 5 differences are equal: the test set is too small to tell them apart, and their "
        "spread says nothing.",
        "5 seeds cannot show a difference to reinit, whatever it is: the smallest p-value of the sign-flip test is "
        "0.062, after Holm over 3 levels 0.19. 8 seeds can.",
    ]
    late = caveats(verdicts(sweep(TOY), 0.02, declared=False))
    assert late[0] == ("The margin of 2 points was chosen after the experiment first ran: these verdicts are post hoc.")
    gap = caveats(verdicts(sweep({"ticket": [0.975, 0.95, 0.975]}), 0.005))
    assert "Level 2 would match, but a level above does not: the claim stops before it." in gap


def test_diverged_trainings_are_told_apart(sweep) -> None:
    """Of the ticket they count against it, of the dense network and of controls they are left out; the claim and the
    table name them."""
    diverged = [("ticket", 2, 0), ("ticket", 2, 3), ("ticket", 0, 4), ("reinit", 1, 1)]
    table = verdicts(sweep(TOY, offsets=(0.0, 0.001, 0.002, 0.003, 0.004, 0.005), diverged=diverged), 0.005)
    assert caveats(table)[:4] == [
        "Seeds of the ticket diverged where the dense network did not: 2 of 5 at level 2. Each counts against it, as "
        "a score below the worst there is; they are in no mean, so means are of the seeds that survived.",
        "1 trainings of the dense network diverged: those seeds are left out, whatever became of the ticket.",
        "1 trainings of reinit diverged: it is compared on the seeds that it survived, which flatters it.",
        f"Level 2 is undecided with n = 3 and 2 that diverged; it needs about {first_undecided(table)['more_seeds']} "
        "more seeds.",
    ]
    assert "(level 1 of 3)" in claim(table) and "undecided, 2 diverged" in verdict_markdown(table)
    at_once = verdicts(sweep({"ticket": [0.97, 0.97]}, diverged=[("ticket", 1, 0)]), 0.005)
    assert claim(at_once).endswith(" n = 4 and 1 that diverged.") and "cannot be called not worse" in claim(at_once)


def test_seeds_that_were_added_change_the_rule_and_the_report_says_so(sweep) -> None:
    first = SweepStart(frozenset({0, 1}), 3, None, 0)
    table = verdicts(sweep(TOY), 0.005, starts=[first])
    said = caveats(table)[0]
    assert "seeds were added" in said and "an e-value above 100" in said and "confidence sequences" in said
    out = " ".join(text(table).split())
    assert "(declared; e-value above 100)" in out and "half the 95% confidence sequence" in out
    mixed = verdicts(sweep(TOY), 0.005, starts=[SweepStart(frozenset({0, 1}), 2, None, 0), replace(first, place=1)])
    assert "e-value" in text(verdicts(sweep(TOY), 0.005, starts=[first, SweepStart(frozenset(range(5)), 3, None, 1)]))
    assert set(mixed["rule"].to_pylist()) == {"anytime"}
    assert not any("seeds were added" in each for each in caveats(verdicts(sweep(TOY), 0.005)))


def test_a_comparison_names_the_experiments_to_which_seeds_were_added(sweep) -> None:
    first, other = sweep(TOY), sweep(TOY, experiment="other-0123456789")
    starts = [SweepStart(frozenset({0, 1}), 3, None, 0)]
    judged = {"toy-0123456789": verdicts(first, 0.005), "other-0123456789": verdicts(other, 0.005, starts=starts)}
    stream = io.StringIO()
    Console(file=stream, width=100).print(comparison_table(pa.concat_tables([first, other]), judged))
    out = " ".join(stream.getvalue().split())
    assert "Seeds were added to other-0123456789: judged by a test that is valid at every look." in out
    assert "64%" in out and "none" in out  # by the rule for any look five seeds decide nothing


def test_a_speed_up_that_is_a_bound_says_so(sweep) -> None:
    """The ticket stops at step 4800 of level 2's 4800: it may have stopped later."""
    whole = sweep(TOY)
    for dense, ticket, sign, words in [
        (6000, 4800, "≤1.04×", "comes at at least 0.96 times the step of the dense network [0.96, 0.96]"),
        (5000, 6000, "≥1.04×", "comes at at most 0.96 times"),
        (5000, 4800, "?", "how early it stops cannot be said"),
        (6000, 6000, "1.04×", "comes at 0.96 times"),
    ]:
        steps = [dense if level == 0 else ticket for level in whole["level"].to_pylist()]
        table = verdicts(whole.append_column("steps", pa.array(steps)), 0.005)
        assert words in claim(table) and f"| {sign} |" in verdict_markdown(table)
        late = [each for each in caveats(table) if "was lowest at the last step" in each]
        assert len(late) == (sign != "1.04×")
    assert late == []


def test_the_table_fits_eighty_columns(sweep) -> None:
    arms = TOY | {"random_mask": TOY["reinit"], "sign_preserving_reinit": TOY["reinit"]}
    out = text(verdicts(sweep(arms), 0.005))
    assert max(map(len, out.splitlines())) <= 80 and "…" not in out
    rows = [line.split() for line in out.splitlines()]
    level = next(place for place, row in enumerate(rows) if row[:1] == ["3"])
    assert rows[level][1:4] == ["51.2%", "-1.50", "±0.00"] and rows[level + 1][:2] == ["not", "matching"]
    assert "(declared; one-sided t test, 0.04)" in " ".join(out.split())


def test_markdown_says_the_same(sweep) -> None:
    table = verdicts(sweep(TOY), 0.005)
    found = verdict_markdown(table)
    assert f"**{claim(table)}**" in found and "| 3 | 51.2% | -1.50 ±0.00<br>not matching | 1.06× |" in found
    assert all(f"- {each}" in found for each in caveats(table))


def test_an_unknown_arm_and_an_empty_table_are_refused(sweep) -> None:
    with pytest.raises(LthError, match="arm 'magic' has no verdict; there is ticket, reinit"):
        claim(verdicts(sweep(TOY), 0.005), "magic")
    with pytest.raises(LthError, match="nothing to judge"):
        verdict_table(verdicts(sweep({"ticket": [0.975]}), 0.005))


def test_without_the_dense_network_and_with_a_gap_it_is_said(sweep) -> None:
    import pyarrow.compute as pc

    whole = sweep(TOY)
    with pytest.raises(LthError, match="the dense network .* is not committed"):
        claim(verdicts(whole.filter(pc.greater(whole["level"], 0)), 0.005))
    gap = verdicts(whole.filter(pc.not_equal(whole["level"], 2)), 0.05)
    assert "(level 1 of 3)" in claim(gap) and "Level 2 is not committed: the claim cannot go past it." in caveats(gap)
    lost = verdicts(sweep({"ticket": [0.975, 0.97]}, diverged=[("ticket", 1, seed) for seed in range(5)]), 0.005)
    assert "At level 1 no seed finished on both sides." in caveats(lost)


def test_the_arm_dense_is_not_the_dense_network(sweep) -> None:
    out = text(verdicts(sweep(TOY | {"dense": [None, 0.98, 0.98, 0.98]}), 0.005))
    assert "dense, same" in out and "dense, same budget" in verdict_markdown(
        verdicts(sweep(TOY | {"dense": [None, 0.98, 0.98, 0.98]}), 0.005)
    )
