"""What a reader of a claim must know besides, one sentence each: the one place where such sentences are made.

A caveat is a function of the verdicts that returns sentences; `caveats` calls them in the order in which they are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from lth.analysis.equivalence import FIRST_LOOK
from lth.analysis.sequential import LATER
from lth.analysis.summary import ordered_arms, single_experiment
from lth.analysis.verdicts import ANYTIME, first_undecided, matches_down_to
from lth.errors import LthError
from lth.report.score_texts import ScoreText
from lth.report.style import arm_label


def caveats(table: pa.Table, arm: str = "ticket") -> list[str]:
    """What the claim of an arm must not hide, one sentence each. LthError as `judged_rows`."""
    rows, last = judged_rows(table, arm), matches_down_to(table, arm)
    return [
        *_post_hoc(table, rows),
        *_looks(rows, last),
        *_diverged(table, rows, arm),
        *_idle(rows),
        *_end(table, rows, last, arm),
        *_equal(last),
        *_late(last),
        *_too_few(table, arm),
    ]


def recorded_caveats(description: Mapping[str, Any]) -> list[str]:
    """What is to be known of an experiment's data and network, of the content of its experiment.yaml, one line each."""
    parts = [description.get("data"), description.get("network")]
    kept = [part.get("caveats") for part in parts if isinstance(part, dict)]
    return [" ".join(str(each).split()) for sentences in kept if isinstance(sentences, list) for each in sentences]


def judged_rows(table: pa.Table, arm: str) -> list[dict[str, Any]]:
    """The rows of an arm against the dense network, by level. LthError if there are none, for an arm without verdict
    and for several experiments."""
    require_arm(table, arm)
    rows = [row for row in table.to_pylist() if row["arm"] == arm and row["against_level"] == 0]
    if not rows:
        raise LthError(
            "the dense network (level 0) is not committed: there is nothing to compare with; run the sweep on"
        )
    return sorted(rows, key=lambda row: int(row["level"]))


def require_arm(table: pa.Table, arm: str) -> None:
    """Raises LthError if an arm of the only experiment has no verdict."""
    arms = ordered_arms(table["arm"].to_pylist())
    if not arms:
        raise LthError("there is nothing to judge: no level above 0 is committed; run the sweep on")
    if arm not in arms:
        raise LthError(f"arm {arm!r} has no verdict; there is {', '.join(arms)}")
    single_experiment(table)


def seeds_judged(row: dict[str, Any]) -> str:
    """`n = 5`, and the failures among them that are in no mean."""
    failed = f" and {row['failed']} that diverged" if row["failed"] else ""
    return f"n = {row['n']}{failed}"


def needed_seeds(row: dict[str, Any]) -> str:
    """How many seeds an undecided comparison needs besides: `about 12 more seeds`."""
    if row["n"] + row["failed"] < 2:
        return "at least two seeds"
    return "more than 10,000 seeds" if row["more_seeds"] is None else f"about {row['more_seeds']:,} more seeds"


def _post_hoc(table: pa.Table, rows: Sequence[dict[str, Any]]) -> list[str]:
    if rows[0]["declared"]:
        return []
    return [
        f"The margin of {ScoreText.of(table).margin(rows[0]['margin'])} was chosen after the experiment first ran: "
        "these verdicts are post hoc."
    ]


def _idle(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Levels at which as many weights are left as at the level above."""
    above, idle = {"level": 0, "density": 1}, []
    for row in rows:
        if row["level"] == above["level"] + 1 and row["density"] == above["density"]:
            idle.append(str(row["level"]))
        above = row
    if not idle:
        return []
    return [
        f"Level {', '.join(idle)} removed nothing: as many weights are left as at the level above, and what is judged "
        "there is one training against another of the same network."
    ]


def _end(table: pa.Table, rows: Sequence[dict[str, Any]], last: dict[str, Any] | None, arm: str) -> list[str]:
    """Why the claim goes no further."""
    sentences = []
    after = [row for row in rows if last is None or row["level"] > last["level"]]
    numbers = [row["level"] for row in rows]
    gap = next((level for level in range(1, numbers[-1]) if level not in numbers), None)
    if gap is not None:
        sentences.append(f"Level {gap} is not committed: the claim cannot go past it.")
    undecided = first_undecided(table, arm)
    if after and after[0]["n"] == 0:
        sentences.append(f"At level {after[0]['level']} no seed finished on both sides.")
    elif undecided is not None:
        sentences.append(
            f"Level {undecided['level']} is undecided with {seeds_judged(undecided)}; it needs "
            f"{needed_seeds(undecided)}."
        )
    again = [str(row["level"]) for row in after if row["verdict"] == "matching"]
    if again:
        sentences.append(
            f"Level {', '.join(again)} would match, but a level above does not: the claim stops before it."
        )
    return sentences


def _equal(last: dict[str, Any] | None) -> list[str]:
    if last is None or last["n"] < 2 or last["low"] is None or last["low"] != last["high"]:
        return []
    return [
        f"At level {last['level']} all {last['n']} differences are equal: the test set is too small to "
        "tell them apart, and their spread says nothing."
    ]


def _looks(rows: Sequence[dict[str, Any]], last: dict[str, Any] | None) -> list[str]:
    """Which rule judged, and why, where it is not the one for a fixed n."""
    judged = rows if last is None else [row for row in rows if row["level"] <= last["level"] + 1]
    if all(row["rule"] != ANYTIME for row in judged):
        return []
    return [
        "Its seeds are not those that the sweep began with: seeds were added, or some of the first are not committed. "
        f"So it is judged by a test that is valid however often one looks (an e-value above {1 / LATER:g}), and "
        "intervals are 95% confidence sequences, wider than those of a fixed n."
    ]


def _diverged(table: pa.Table, rows: Sequence[dict[str, Any]], arm: str) -> list[str]:
    """Trainings that diverged: of the arm as failures, of the dense network and of controls as seeds left out."""
    sentences = []
    failed = [row for row in rows if row["failed"]]
    if failed:
        where = ", ".join(f"{row['failed']} of {row['failed'] + row['n']} at level {row['level']}" for row in failed)
        score = ScoreText.of(table)
        worst = "a score below the worst there is" if score.score.percent else "infinitely bad"
        sentences.append(
            f"Seeds of the {arm} diverged where the dense network did not: {where}. Each counts against it, as "
            f"{worst}; they are in no mean, so means are of the seeds that survived."
        )
    if rows[0]["diverged_against"]:
        sentences.append(
            f"{rows[0]['diverged_against']} trainings of the dense network diverged: those seeds are left out, "
            f"whatever became of the {arm}."
        )
    others: dict[str, int] = {}
    for row in table.to_pylist():
        if row["arm"] == arm and row["against_level"] > 0 and row["diverged_against"]:
            others[row["against"]] = others.get(row["against"], 0) + row["diverged_against"]
    for other, count in others.items():
        sentences.append(
            f"{count} trainings of {arm_label(other)} diverged: it is compared on the seeds that it survived, which "
            "flatters it."
        )
    return sentences


def _late(last: dict[str, Any] | None) -> list[str]:
    """That an early stop at the last step is only a bound."""
    if last is None or last["speedup_bound"] is None:
        return []
    whose = [
        f"of {count} of {last['speedup_n']} seeds of {side}"
        for count, side in ((last["late"], f"the {last['arm']}"), (last["late_against"], "the dense network"))
        if count
    ]
    return [
        f"At level {last['level']} the validation loss {' and '.join(whose)} was lowest at the last step: they were "
        "still learning, and would have stopped later in a longer training."
    ]


def _too_few(table: pa.Table, arm: str) -> list[str]:
    """That a sign-flip test of so few seeds can show nothing: 2 / 2^n is its smallest p-value, times the levels."""
    families: dict[str, list[int]] = {}
    for row in table.to_pylist():
        if row["arm"] == arm and row["against_level"] > 0 and row["rule"] != ANYTIME:
            families.setdefault(row["against"], []).append(row["n"])
    alike: dict[tuple[int, int], list[str]] = {}
    for against, counts in families.items():
        alike.setdefault((max(counts), len(counts)), []).append(arm_label(against))
    sentences = []
    for (seeds, levels), others in alike.items():
        smallest = min(1.0, levels * 2 * 0.5**seeds)
        if seeds and smallest >= FIRST_LOOK:
            enough = next(n for n in range(1, 64) if levels * 2 * 0.5**n < FIRST_LOOK)
            sentences.append(
                f"{seeds} seeds cannot show a difference to {' or '.join(others)}, whatever it is: the smallest "
                f"p-value of the sign-flip test is {2 * 0.5**seeds:.2g}, after Holm over {levels} levels "
                f"{smallest:.2g}. {enough} seeds can."
            )
    return sentences
