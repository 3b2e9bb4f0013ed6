"""Scores: what a network is judged by, with a name, a direction and how it is written. Tables name theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from lth.registry import Registry

Sums = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
OfSums = Callable[[torch.Tensor, int], torch.Tensor]
OfSplit = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Score:
    """How good outputs are, of a whole split.

    `label` is how a sentence names it ("accuracy"), `percent` whether it is written in percent and its differences in
    points. Either it is made of sums over examples, so that it can be had of the batches of a training too:
    `sums(outputs, targets)` float64 [sums, seeds] and `of_sums(sums, count)` float64 [seeds]; or it needs all examples
    at once: `of_split(outputs, targets)`. Outputs are [seeds, examples, ...], targets [seeds, examples].
    """

    name: str
    label: str
    higher_is_better: bool
    percent: bool
    sums: Sums | None = None
    of_sums: OfSums | None = None
    of_split: OfSplit | None = None

    def __post_init__(self) -> None:
        if (self.of_split is None) == (self.sums is None or self.of_sums is None):
            raise ValueError(f"score {self.name!r} needs sums and of_sums, or else of_split")

    def written(self, value: float) -> str:
        """A value in full: `98.12%`, or `0.4512`."""
        return f"{100 * value:.2f}%" if self.percent else f"{value:.4f}"

    def sums_of(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Its sums over some examples, float64 [sums, seeds]; none of them where it needs a whole split."""
        if self.sums is None:
            return torch.zeros(0, len(outputs), dtype=torch.float64, device=outputs.device)
        return self.sums(outputs, targets)

    def from_sums(self, sums: torch.Tensor, count: int) -> torch.Tensor:
        """Float64 [seeds] of `count` examples; NaN where it needs a whole split."""
        if self.of_sums is None:
            return torch.full(sums.shape[1:], torch.nan, dtype=torch.float64, device=sums.device)
        return self.of_sums(sums, count)


SCORES: Registry[Score] = Registry("score", Score)


def register_score(score: Score, description: str) -> Score:
    """Make a score known by its name: the tables hold that name, and reports look here for how it is written."""
    SCORES.add(score.name, score, description, score.of_split or score.of_sums)
    return score


def _right(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs.argmax(2) == targets).sum(1).double().unsqueeze(0)


def _share(sums: torch.Tensor, count: int) -> torch.Tensor:
    """The fraction of the examples that is right."""
    return sums[0] / count


def _auroc(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The probability that an example of a class scores above one of another, ties counting half (Hanley & McNeil
    1982); of several classes the mean of each against the rest. Classes without examples on both sides are left out."""
    classes = outputs.shape[2]
    if classes == 2:
        ranked, positives = (outputs[:, :, 1:] - outputs[:, :, :1]).double(), [1]
    else:
        ranked, positives = torch.softmax(outputs.double(), 2), list(range(classes))
    total = count = torch.zeros(len(outputs), dtype=torch.float64, device=outputs.device)
    for column, label in enumerate(positives):  # one after another: a reduction's order may depend on how many seeds
        area = _area(ranked[:, :, column], targets == label)
        total, count = total + area.nan_to_num(0.0), count + ~area.isnan()
    return total / count


def _area(values: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """The area under the ROC curve of values [seeds, n], by mean ranks; NaN where all are of one kind or not finite."""
    ordered = values.sort(1).values.contiguous()
    below = torch.searchsorted(ordered, values.contiguous())
    upto = torch.searchsorted(ordered, values.contiguous(), right=True)
    ranks = (below + upto + 1).double() / 2
    count = positive.sum(1).double()
    others = positive.shape[1] - count
    area = ((ranks * positive).sum(1) - count * (count + 1) / 2) / (count * others)
    return torch.where(torch.isfinite(values).all(1), area, torch.nan)


def _r2_sums(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    target = targets.double()
    return torch.stack([(outputs.flatten(1).double() - target).square().sum(1), target.sum(1), target.square().sum(1)])


def _r2(sums: torch.Tensor, count: int) -> torch.Tensor:
    """1 less the squared error, divided by that of the mean of the split."""
    return 1 - sums[0] / (sums[2] - sums[1].square() / count)


ACCURACY = register_score(
    Score("accuracy", "accuracy", True, True, sums=_right, of_sums=_share), "Fraction (0-1) of examples right."
)
AUROC = register_score(
    Score("auroc", "AUROC", True, True, of_split=_auroc),
    "Area under the ROC curve (0-1): how often an example of a class is ranked above one of another.",
)
R2 = register_score(
    Score("r2", "R²", True, False, sums=_r2_sums, of_sums=_r2),
    "Coefficient of determination: 1 less the squared error by that of the split's mean; 1 is perfect, 0 the mean.",
)
