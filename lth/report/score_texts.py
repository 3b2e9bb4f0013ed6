"""How a score is written: in percent and its differences in points, or as a plain number in its own unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from lth.analysis.intervals import mean_interval
from lth.analysis.scores import score_named, single_score

if TYPE_CHECKING:
    from lth.objectives import Score


@dataclass(frozen=True)
class ScoreText:
    """The words and numbers of one score."""

    score: Score

    @classmethod
    def of(cls, table: pa.Table) -> ScoreText:
        """Of the only score of a table."""
        return cls(single_score(table))

    @classmethod
    def named(cls, name: str) -> ScoreText:
        """Of a registered score."""
        return cls(score_named(name))

    @property
    def label(self) -> str:
        """`accuracy`, as within a sentence."""
        return self.score.label

    @property
    def title(self) -> str:
        """`Accuracy`, as at its beginning."""
        return self.label[0].upper() + self.label[1:]

    @property
    def sign(self) -> float:
        """What makes more of it better."""
        return 1.0 if self.score.higher_is_better else -1.0

    @property
    def scale(self) -> int:
        """What a value is multiplied by before it is written."""
        return 100 if self.score.percent else 1

    @property
    def percent(self) -> str:
        """` in %`, or nothing."""
        return " in %" if self.score.percent else ""

    @property
    def unit(self) -> str:
        """Of differences: `points`, or `of R²`."""
        return "points" if self.score.percent else f"of {self.label}"

    @property
    def differences(self) -> str:
        """How differences are given: ` in points`, and that they are turned round where less is better."""
        turned = "" if self.score.higher_is_better else ", turned so that better is positive,"
        return turned + (" in points" if self.score.percent else "")

    def axis(self, split: str, when: str = "") -> str:
        """`test accuracy at early stop (%)` of a split, `when` being ` at early stop`."""
        return f"{split} {self.label}{when}" + (" (%)" if self.score.percent else "")

    def value(self, value: float, *beside: float) -> str:
        """`98.12`, or `0.4512`, with as many digits as the numbers `beside` it need."""
        return f"{self.scale * value:.{self._decimals(value, *beside)}f}"

    def over_seeds(self, values: Sequence[float]) -> str:
        """`accuracy 98.12 ± 0.30%`: the mean over seeds and half the width of its 95% t interval."""
        interval = mean_interval([self.scale * value for value in values])
        half, decimals = interval.high - interval.mean, self._decimals(*values)
        spread = f" ± {half:.{decimals}f}" if len(values) > 1 else ""
        return f"{self.label} {interval.mean:.{decimals}f}{spread}" + ("%" if self.score.percent else "")

    def difference(self, value: float, *beside: float) -> str:
        """`+0.12`, or `+0.0012`."""
        return f"{self.scale * value:+.{self._decimals(value, *beside)}f}"

    def half(self, low: float, high: float, *beside: float) -> str:
        """Half the distance of the ends of an interval."""
        return f"{self.scale / 2 * (high - low):.{self._decimals((high - low) / 2, *beside)}f}"

    def margin(self, margin: float) -> str:
        """`0.5 points`, or `0.005 of R²`."""
        return f"{self.scale * margin:.3g} {self.unit}"

    def _decimals(self, *values: float) -> int:
        """Two of a percentage; else so many that the largest value has four digits, or two where it is tiny."""
        if self.score.percent:
            return 2
        largest = max(map(abs, values))
        if not 0 < largest < math.inf:
            return 4
        place = math.floor(math.log10(largest))
        return max(0, 3 - place) if place >= 0 else max(4, 1 - place)
