"""Tests on paired differences: not worse by more than a margin, equivalent within it, and many of them at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lth.errors import LthError

ALPHA = 0.05
"""Of every one-sided test here: the convention of TOST, whose interval then is the 90% one (Schuirmann 1987)."""
POWER = 0.8
"""The chance to decide that `seeds_to_decide` asks for."""
MOST_SEEDS = 10_000


class MarginTest(NamedTuple):
    """Three one-sided t tests of the mean of paired differences against the margin; nan for fewer than two pairs."""

    not_worse: float
    """p-value that the mean is above -margin (non-inferiority)."""
    worse: float
    """p-value that the mean is below -margin."""
    equivalent: float
    """p-value that the mean lies within ±margin (TOST: the larger of both one-sided p-values; Schuirmann 1987)."""


def margin_test(differences: Sequence[float] | NDArray[np.float64], margin: float) -> MarginTest:
    """Student's t tests of `differences` [n] against `margin` (above 0, in their unit).

    Equal differences have no spread: the p-values then are 0 or 1, or 0.5 exactly at the margin. Raises LthError for a
    margin that is not above 0.
    """
    from scipy.special import stdtr

    if not margin > 0:
        raise LthError(f"a margin must be above 0, e.g. 0.005 for half a percentage point; got {margin!r}")
    sample = np.asarray(differences, dtype=np.float64)
    n = sample.size
    if n < 2:
        return MarginTest(math.nan, math.nan, math.nan)
    constant = bool((sample == sample[0]).all())
    mean = float(sample[0]) if constant else math.fsum(sample) / n
    error = 0.0 if constant else float(sample.std(ddof=1)) / math.sqrt(n)

    def below(bound: float) -> float:
        """p-value that the mean is below the bound."""
        distance = mean - bound
        if error == 0:
            return 0.5 if distance == 0 else float(distance > 0)
        return float(stdtr(n - 1, distance / error))

    worse = below(-margin)
    return MarginTest(1 - worse, worse, max(1 - worse, below(margin)))


def seeds_to_decide(mean: float, deviation: float, margin: float) -> int | None:
    """Seeds at which the t test against -margin would decide with probability 0.8, if mean and standard deviation of
    the differences are what they are now. None beyond 10,000.

    Power of the one-sample t test from the noncentral t distribution (Johnson & Welch 1940).
    """
    from scipy.special import nctdtr, stdtrit

    distance = abs(mean + margin)
    if distance == 0:
        return None
    if deviation == 0:
        return 2

    def decides(n: int) -> bool:
        miss = nctdtr(n - 1, distance / deviation * math.sqrt(n), stdtrit(n - 1, 1 - ALPHA))
        return bool(1 - miss >= POWER)

    low, high = 1, 2
    while not decides(high):
        low, high = high, 2 * high
        if low >= MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high if high <= MOST_SEEDS else None


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for how many they are (Holm 1979), in the order given: adjusted ones below alpha are wrong with
    probability alpha at most for all of them together, whatever their dependence. nan stays nan and does not count.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    known = sorted((value, place) for place, value in enumerate(p_values) if not math.isnan(value))
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, (value, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * value))
        adjusted[place] = largest
    return adjusted
