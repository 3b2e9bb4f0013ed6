"""Classes that cannot be learnt, and those of which a reader of the results must know."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from lth.errors import DataError

MANY_NUMBERS = 20
"""More classes than these that are all called by numbers look like a quantity."""


def check_classes(
    name: str, classes: int, train: Tensor, test: Tensor, labels: tuple[str, ...], hint: str = ""
) -> None:
    """Refuse labels of which nothing can be learnt: `train` and `test` are int64, 0..classes-1, called `labels`.

    Raises DataError for one class only, one that only the test split has, and names of another number or used twice.
    """
    if len(labels) not in (0, classes):
        raise DataError(f"data set {name!r} has {len(labels)} labels for {classes} classes: name each or none")
    if len(set(labels)) < len(labels):
        twice = next(each for each in labels if labels.count(each) > 1)
        raise DataError(f"data set {name!r} has two classes called {twice!r}: give each a name of its own")
    trained, tested = set(train.unique().tolist()), set(test.unique().tolist())
    if len(trained) == 1:
        only = called(next(iter(trained)), labels)
        raise DataError(f"the train split of data set {name!r} has the one class {only}: there is nothing to learn")
    untrained = sorted(tested - trained)
    if untrained:
        raise DataError(
            f"class {called(untrained[0], labels)} of data set {name!r} is in the test split only: no network can "
            f"learn it; split the examples anew{hint}"
        )


def class_caveats(classes: int, train: Tensor, test: Tensor, labels: tuple[str, ...]) -> list[str]:
    """What a reader of results must know of these classes, one sentence each; arguments as of `check_classes`."""
    sentences = []
    trained, tested = (torch.bincount(split, minlength=classes) for split in (train, test))
    for counts, split, so in (
        (trained, "training", "nothing is learnt of what it lacks"),
        (tested, "test", "test scores say nothing of what it lacks"),
    ):
        lacking = [called(code, labels) for code in (counts == 0).nonzero().flatten().tolist()]
        if lacking:
            few = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
            sentences.append(f"The {split} split has no example of {len(lacking)} of {classes} classes ({few}): {so}.")
    single = int((trained == 1).sum())
    if single:
        sentences.append(
            f"{single} of {classes} classes have a single training example, which in some seeds validates and is not "
            "learnt."
        )
    numbers = [number for number in map(_number, labels) if number is not None]
    if labels and len(numbers) == len(labels):
        if len(labels) > MANY_NUMBERS:
            sentences.append(
                f"The {classes} classes are called by numbers, {labels[0]} to {labels[-1]}: a near miss counts as any "
                "other miss. A quantity is better learnt as a number."
            )
        elif any(other - one != 1 for one, other in pairwise(numbers)):
            few = ", ".join(labels[:4]) + (", ..." if classes > 4 else "")
            sentences.append(
                f"The labels {few} are not numbered without gaps: they are {classes} classes in this order."
            )
    return sentences


def called(code: int, labels: tuple[str, ...]) -> str:
    """A class as a person knows it."""
    return repr(labels[code]) if labels else str(code)


def _number(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None
