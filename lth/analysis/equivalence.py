"""Tests on paired differences: not worse by more than a margin, equivalent within it, and many of them at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lth.errors import LthError

ALPHA = 0.05
"""What a verdict may be wrong with, whenever one looks, and a one-sided test in general: the convention of TOST, whose
interval then is the 90% one (Schuirmann 1987)."""
FIRST_LOOK = 0.04
"""What the t test at the n that a sweep began with has of it; the rest is for seeds that are added later (see
`lth.analysis.sequential`)."""
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

    Equal differences have no spread to divide by: the p-value then is that of the sign test, 2^-n, or 0.5 exactly at
    the margin. Raises LthError for a margin that is not above 0.
    """
    from scipy.special import stdtr

    above = above_margin(differences, margin)
    n = above.size
    if n < 2:
        return MarginTest(math.nan, math.nan, math.nan)
    constant = bool((above == above[0]).all())
    mean = float(above[0]) if constant else math.fsum(above) / n
    error = 0.0 if constant else float(above.std(ddof=1)) / math.sqrt(n)

    def below(distance: float) -> float:
        """p-value that the mean lies below a bound that it is `distance` above."""
        if error > 0:
            return float(stdtr(n - 1, distance / error))
        return 0.5 if distance == 0 else 0.5**n if distance < 0 else 1 - 0.5**n

    worse = below(mean)
    return MarginTest(1 - worse, worse, max(1 - worse, below(mean - 2 * margin)))


def above_margin(differences: Sequence[float] | NDArray[np.float64], margin: float) -> NDArray[np.float64]:
    """How far `differences` [n] lie above -margin. Those within a millionth of the margin of each other, or of its
    edge, are equal: accuracies are counts, and their rounding is no evidence. LthError for a margin not above 0."""
    if not margin > 0:
        raise LthError(f"a margin must be above 0, e.g. 0.005 for half a percentage point; got {margin!r}")
    grain = 1e-6 * margin
    above = np.asarray(differences, dtype=np.float64) + margin
    if above.size and np.ptp(above) <= grain:
        above = np.full_like(above, above[0])
    return np.where(np.abs(above) <= grain, 0.0, above)


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
