"""How often a ticket that is worse by exactly the margin is called matching, and how many seeds a decision takes.

    python benchmarks/looks.py --sweeps 10000

Simulated differences to the dense network, in units of the margin; no network is trained. A sweep begins with `first`
seeds, is judged by the t test for a fixed n, and then by the rule for any look after every few seeds, until it is
decided or has MOST seeds. `fixed n again` is what the t test alone, at 5%, would say if it were asked at every look.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from lth.analysis.equivalence import ALPHA, FIRST_LOOK
from lth.analysis.sequential import EFFECT, LATER, seeds_to_decide

MOST = 400
Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Values]


def counts(generator: np.random.Generator, count: int, deviation: float) -> Values:
    """Right answers of a test set of 500 at a margin of 0.4 points: whole numbers of half a margin."""
    return np.round(generator.normal(0, 2 * deviation, count)) / 2


DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda generator, count: generator.normal(0, 1, count),
    "counts of a test set of 500": lambda generator, count: counts(generator, count, 1.0),
    "mostly 0, else one answer": lambda generator, count: generator.choice([-0.5, 0, 0, 0, 0.5], count),
    "heavy tails (t, 3 df)": lambda generator, count: generator.standard_t(3, count),
    "tail to good seeds (skew 2)": lambda generator, count: generator.exponential(size=count) - 1,
    "tail to bad seeds (skew -0.5)": lambda generator, count: (16 - generator.gamma(16, size=count)) / 4,
    "tail to bad seeds (skew -1)": lambda generator, count: (4 - generator.gamma(4, size=count)) / 2,
    "tail to bad seeds (skew -2)": lambda generator, count: 1 - generator.exponential(size=count),
    "no spread": lambda generator, count: np.zeros(count),
}
"""Of mean 0: the difference to the dense network less its true mean."""
RULES: dict[str, tuple[int, int | None]] = {
    "about N more, as advised": (5, None),
    "five at a time": (5, 5),
    "one at a time": (5, 1),
    "one at a time from 3": (3, 1),
    "ten, then ten at a time": (10, 10),
    "twenty, then one at a time": (20, 1),
}


def e_values(values: Values) -> Values:
    """`lth.analysis.e_value` of the first n of every row [sweeps, MOST], for every n; -> [sweeps, MOST]."""
    n = np.arange(1, values.shape[1] + 1)
    sums, squares = values.cumsum(1), (values * values).cumsum(1)
    share = np.minimum(np.divide(sums**2, n * squares, out=np.zeros_like(sums), where=squares > 1e-12), 1.0)
    k = EFFECT * n
    left = 1 + k * (1 - share)
    positive = stdtr(n, np.sign(sums) * np.sqrt(n * k * share / left))
    exponent = -0.5 * np.log1p(k) + n / 2 * (np.log1p(k) - np.log(left))
    return np.asarray(2 * positive * np.exp(np.minimum(exponent, 700)))


def p_values(values: Values) -> Values:
    """Of the t test that the mean of the first n is above 0, for every n; without spread of the sign test."""
    n = np.arange(1, values.shape[1] + 1)
    mean = values.cumsum(1) / n
    spread = np.maximum((values * values).cumsum(1) - n * mean**2, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 1 - stdtr(n - 1, mean / np.sqrt(spread / (n - 1) / n))
    equal = spread <= 1e-12 * np.maximum(mean**2, 1)
    return np.where(equal, np.where(np.abs(mean) < 1e-9, 0.5, np.where(mean > 0, 0.5**n, 1 - 0.5**n)), p)


class Judged(NamedTuple):
    """What every n of every sweep says, all [sweeps, MOST]."""

    above: Values
    better: Values
    worse: Values
    p: Values

    @classmethod
    def of(cls, above: Values) -> Judged:
        """`above`: differences less the margin's edge."""
        return cls(above, e_values(above), e_values(-above), p_values(above))

    def first(self, count: int) -> Judged:
        """The first sweeps of them."""
        return Judged(*(values[:count] for values in self))


def looks_of(first: int, more: int | None, above: Values) -> NDArray[np.bool_]:
    """bool [sweeps, MOST]: at which n each sweep is looked at."""
    looks = np.zeros(above.shape, bool)
    if more is not None:
        looks[:, first - 1 :: more] = True
        return looks
    for row, values in zip(looks, above, strict=True):
        n = first
        while n <= MOST:
            row[n - 1] = True
            sample = values[:n]
            needed = seeds_to_decide(float(sample.mean()) - 1, float(sample.std(ddof=1)), 1.0)
            n = MOST + 1 if needed is None else max(needed, n + 1)
    return looks


def decided(judged: Judged, first: int, looks: NDArray[np.bool_], again: bool) -> tuple[Values, Values]:
    """For every sweep: 1 matching, -1 not matching, 0 undecided; and the seeds that it then had. `again`: by the t test
    at every look."""
    p, at_first = judged.p, first - 1
    if again:
        better, worse = p < ALPHA, 1 - p < ALPHA
    else:
        better, worse = judged.better > 1 / LATER, judged.worse > 1 / LATER
        better[:, at_first], worse[:, at_first] = p[:, at_first] < FIRST_LOOK, 1 - p[:, at_first] < FIRST_LOOK
    ends = (better | worse) & looks
    at = np.where(ends.any(1), ends.argmax(1), MOST - 1)
    rows = np.arange(len(p))
    verdict = np.where(ends.any(1), np.where(better[rows, at], 1.0, -1.0), 0.0)
    return verdict, at + 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    count = options.sweeps
    few = max(count // 20, 100)  # of "as advised": they are looked at one by one
    print(f"{count:,} simulated sweeps each ({few:,} as advised), up to {MOST} seeds\n")
    print("Normal differences, five seeds, then five at a time: seeds until decided, and a fixed n with power 0.8\n")
    print("| true difference, margins | deviation, margins | median | mean | right | fixed n |")
    print("|---:|---:|---:|---:|---:|---:|")
    for true in (0.0, -0.5, -1.5):
        for deviation in (0.5, 1.0, 2.0):
            judged = Judged.of(np.random.default_rng(options.seed).normal(1 + true, deviation, (count, MOST)))
            verdict, seeds = decided(judged, 5, looks_of(5, 5, judged.above), False)
            p = judged.p if true > -1 else 1 - judged.p
            fixed = next(n for n in range(2, MOST) if np.mean(p[:, n - 1] < ALPHA) >= 0.8)
            right = np.mean(verdict == (1 if true > -1 else -1))
            print(
                f"| {true:g} | {deviation:g} | {np.median(seeds):.0f} | {seeds.mean():.1f} | {right:.3f} | {fixed} |",
                flush=True,
            )
    print(
        "\nTrue difference exactly -margin, standard deviation one margin: false 'matching' in %, in brackets if the t"
    )
    print("test alone is asked at every look; `once`: the t test at 5% at the first look only\n")
    names = [f"{rule} | once" if rule == "five at a time" else rule for rule in RULES]
    print("| distribution | " + " | ".join(names) + " |\n|---|" + " ---: |" * (len(RULES) + 1))
    for name, draw in DISTRIBUTIONS.items():
        judged = Judged.of(draw(np.random.default_rng(options.seed), count * MOST).reshape(count, MOST))
        cells = []
        for rule, (first, more) in RULES.items():
            some = judged if more is not None else judged.first(few)
            looks = looks_of(first, more, some.above)
            rates = [100 * np.mean(decided(some, first, looks, again)[0] == 1) for again in (False, True)]
            cells.append(f"{rates[0]:.1f} ({rates[1]:.1f})")
            if rule == "five at a time":
                cells.append(f"{100 * np.mean(judged.p[:, 4] < ALPHA):.1f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
