"""Tests that stay valid when seeds are added until it is decided.

A test at a fixed n is wrong with its alpha at that n alone: who looks again after every few seeds finds a "matching"
ticket in one case of five. An e-value does not mind: where the true mean of the differences lies on the bound, the
chance that it *ever* exceeds 1/alpha, at any n and however one came to look there, is at most alpha (Ville 1939).

It is a likelihood ratio of the t statistics (Lai 1976; Wang & Ramdas 2024, "Anytime-valid t-tests and confidence
sequences for Gaussian means with unknown variance"; Perez-Ortiz, Lardy, de Heide & Grunwald 2024): a mean of `delta`
standard deviations, delta ~ half-normal with variance EFFECT, against a mean of 0, the standard deviation integrated
out under its right Haar measure. It knows neither unit nor spread of a score, needs no bounds, and depends on the
differences, not on their order. It assumes what Student's t test assumes: differences that are independent and near
normal. A long tail on the side of bad seeds breaks either test at a handful of seeds.

The 5% of a verdict are shared out: FIRST_LOOK for the t test at the n that a sweep began with, LATER for the e-value at
every other look. A p-value of a later look is FIRST_LOOK / LATER / e, so that either kind is held against FIRST_LOOK.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lth.analysis.equivalence import FIRST_LOOK, MOST_SEEDS, POWER, MarginTest, above_margin
from lth.analysis.intervals import Interval

LATER = 0.01
"""What all later looks together may be wrong with: an e-value above 100 decides."""
EFFECT = 0.25
"""Prior variance of the mean in standard deviations: effects of about one half, for which a handful of seeds is too
few. A wide optimum: from 0.1 to 1 the seeds needed hardly change (benchmarks/looks.py)."""


def e_value(differences: Sequence[float] | NDArray[np.float64]) -> float:
    """How much more likely `differences` [n] are if their mean is above 0 than if it is 0: the e-value of "above 0".

    Equal differences are no proof: with n of them it is 2 (1 + EFFECT n)^((n-1)/2) at most.

    >>> round(e_value([1.0, 2.0, 3.0, 4.0, 5.0]), 4)
    5.7745
    """
    sample = np.asarray(differences, dtype=np.float64)
    total = float((sample * sample).sum())
    share = float(sample.sum()) ** 2 / (len(sample) * total) if total > 0 else 0.0
    return _one_sided(len(sample), math.copysign(min(share, 1.0), float(sample.sum())))


def sequential_test(differences: Sequence[float] | NDArray[np.float64], margin: float) -> MarginTest:
    """As `margin_test`, at any look: p-values from e-values, to be held against FIRST_LOOK."""
    above = above_margin(differences, margin)
    if len(above) < 2:
        return MarginTest(math.nan, math.nan, math.nan)
    not_worse, worse = p_value(e_value(above)), p_value(e_value(-above))
    return MarginTest(not_worse, worse, max(not_worse, p_value(e_value(2 * margin - above))))


def sequential_difference(differences: Sequence[float] | NDArray[np.float64]) -> float:
    """p-value at any look that the mean is not 0, from the two-sided e-value: the mean of both sides' (nan for fewer
    than two)."""
    sample = np.asarray(differences, dtype=np.float64)
    if len(sample) < 2:
        return math.nan
    return p_value((e_value(sample) + e_value(-sample)) / 2)


def p_value(e: float) -> float:
    """FIRST_LOOK / LATER / e, 1 at most."""
    return 1.0 if e <= FIRST_LOOK / LATER else FIRST_LOOK / LATER / e


def confidence_sequence(values: Sequence[float] | NDArray[np.float64], confidence: float = 0.95) -> Interval:
    """The mean and an interval that holds the true mean at every n at once with probability `confidence`: the means
    whose two-sided e-value is at most 1 / (1 - confidence). Its ends are infinite for very few values.

    >>> [round(end, 3) for end in confidence_sequence(list(range(20)))]
    [9.5, 4.92, 14.08, 20]
    """
    sample = np.asarray(values, dtype=np.float64)
    n, mean = len(sample), math.fsum(sample) / len(sample)
    k = EFFECT * n
    rest = ((1 + k) * ((1 - confidence) ** 2 / (1 + k)) ** (1 / n) - 1) / k
    spread = float(((sample - mean) ** 2).sum())
    half = math.sqrt(spread * (1 - rest) / (n * rest)) if rest > 0 else math.inf
    return Interval(mean, mean - half, mean + half, n)


def seeds_to_decide(mean: float, deviation: float, margin: float) -> int | None:
    """Seeds at which the e-value against -margin would decide with probability 0.8, if mean and standard deviation of
    the differences are what they are now. None beyond 10,000.

    Power from the noncentral t distribution (Johnson & Welch 1940).
    """
    from scipy.special import nctdtr

    distance = abs(mean + margin)
    if distance <= 1e-6 * margin:
        return None

    def decides(n: int) -> bool:
        critical = _critical(n)
        if critical is None:
            return False
        if deviation == 0:
            return True
        return bool(1 - nctdtr(n - 1, distance / deviation * math.sqrt(n), critical) >= POWER)

    low, high = 1, 2
    while not decides(high):
        low, high = high, 2 * high
        if low >= MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high if high <= MOST_SEEDS else None


def _one_sided(n: int, share: float) -> float:
    """The e-value where `share` (n mean^2 by the sum of squares, with the sign of the mean) is t^2 / (t^2 + n - 1).

    Normal prior for delta: sqrt(1+k)^-1 ((1+k) / (1+k(1-share)))^(n/2), k = EFFECT n (Gonen et al. 2005); cut to
    delta > 0: times twice the posterior probability of it, Student's t with n degrees of freedom.
    """
    from scipy.special import stdtr

    k, r = EFFECT * n, abs(share)
    left = 1 + k * (1 - r)
    positive = float(stdtr(n, math.copysign(math.sqrt(n * k * r / left), share)))
    logarithm = -0.5 * math.log1p(k) + n / 2 * (math.log1p(k) - math.log(left))
    return 2 * positive * math.exp(min(logarithm, 700.0))


@cache
def _critical(n: int) -> float | None:
    """The t statistic of n differences whose e-value is 1 / LATER; None where there is none."""
    if _one_sided(n, 1.0) <= 1 / LATER:
        return None
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if _one_sided(n, middle) > 1 / LATER else (middle, high)
    return math.inf if high == 1 else math.sqrt((n - 1) * high / (1 - high))
