"""The claims about LeNet-300-100 on MNIST (Frankle & Carbin 2019), judged on differences paired by seed."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from lth.analysis import mean_interval, paired_difference, paired_log_ratio
from lth.analysis.summary import seed_means

DENSITY = {7: "21.1%", 9: "13.5%", 15: "3.6%", 19: "1.5%"}
EARLY = "test_accuracy_at_early_stop"


@dataclass(frozen=True)
class Claim:
    """One published claim: what was found, with its 95% interval, what it must reach, and what was published."""

    number: str
    text: str
    found: str
    bound: str
    holds: bool
    published: str


def claims(levels: pa.Table) -> list[Claim]:
    """Claims 1-4 of the gates."""
    found = []
    for level, published in ((7, "above dense"), (9, "> +0.3 pp"), (15, "back to dense")):
        bound = 0.0 if level == 9 else -0.1
        found.append(_difference(levels, "1", ("ticket", level), ("ticket", 0), "dense", bound, published, level == 9))
    for level, bound, published in ((7, 0.2, "+0.5 pp"), (15, 0.4, "re-init below dense"), (19, 1.0, "")):
        found.append(_difference(levels, "2", ("ticket", level), ("reinit", level), "re-init", bound, published))
    for other, bound, published in ((("ticket", 0), 1.0, "38% earlier"), (("reinit", 7), 1.5, "2.51x")):
        ratio = paired_log_ratio(levels, other[0], other[1], "ticket", 7)
        name = "dense" if other[1] == 0 else "re-init"
        strict = other[0] == "reinit"
        found.append(
            Claim(
                "3",
                f"early stop of {name} / early stop of the ticket at 21.1%",
                f"{ratio.ratio:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]",
                f"{'>' if strict else '>='} {bound:g}x",
                ratio.ratio > bound if strict else ratio.ratio >= bound,
                published,
            )
        )
    found.append(_difference(levels, "4", ("ticket", 15), ("random_mask", 15), "random mask", 1.5, ""))
    return found


def _difference(
    levels: pa.Table,
    number: str,
    one: tuple[str, int],
    other: tuple[str, int],
    name: str,
    bound: float,
    published: str,
    strict: bool = False,
) -> Claim:
    difference = paired_difference(levels, *one, *other, column=EARLY)
    mean, low, high = (100 * value for value in (difference.mean, difference.low, difference.high))
    return Claim(
        number,
        f"ticket - {name} at {DENSITY[one[1]]}",
        f"{mean:+.2f} pp [{low:+.2f}, {high:+.2f}]",
        f"{'>' if strict else '>='} {bound:+g} pp",
        mean > bound if strict else mean >= bound,
        published,
    )


def accuracy(levels: pa.Table, arm: str, level: int) -> str:
    """Mean and half-width of the 95% t interval over seeds, in percent."""
    interval = mean_interval(list(_of(levels, arm, level).values()))
    return f"{100 * interval.mean:.2f} ± {50 * (interval.high - interval.low):.2f}"


def _of(levels: pa.Table, arm: str, level: int) -> dict[int, float]:
    rows = seed_means(levels, [EARLY]).to_pylist()
    return {row["seed"]: row[EARLY] for row in rows if row["arm"] == arm and row["level"] == level}
