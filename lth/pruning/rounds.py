"""One level of pruning: score, remove, score what is left again, as often as the criterion asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from lth.engine.evidence import Loss, Sample, gather
from lth.engine.feed import Feed
from lth.engine.network import Network
from lth.errors import LthError
from lth.pruning.criteria import Criterion
from lth.pruning.ladder import between
from lth.pruning.selection import select


@dataclass(frozen=True)
class Scored:
    """A cohort whose weights are scored, all on one device.

    `weights`, `initial` and what is `watched`, by watcher, are rows [seeds, width]; `buffers` name -> [seeds, *shape];
    `feed` holds the data where the criterion needs any; `loss` is the objective's.
    """

    network: Network
    seeds: tuple[int, ...]
    weights: torch.Tensor
    buffers: Mapping[str, torch.Tensor]
    initial: torch.Tensor
    watched: Mapping[str, torch.Tensor]
    feed: Feed | None
    input_shape: Sequence[int]
    loss: Loss = functional.cross_entropy


def prune(
    cohort: Scored,
    criterion: Criterion,
    masks: Mapping[str, torch.Tensor],
    after: Mapping[str, int],
    *,
    rounds: int = 1,
    sample: Sample | None = None,
    level: int = 0,
    allow_empty: bool = False,
) -> dict[str, torch.Tensor]:
    """The masks [seeds, *shape] with the counts `after`, cut from `masks` in `rounds` rounds on an exponential ladder.

    Every round scores the weights that are left, in the network that they make. Raises what `select` raises.
    """
    masks = dict(masks)
    before = {name: int(mask[0].sum()) for name, mask in masks.items()}
    if "" in after:
        before = {
            **{name: count for name, count in before.items() if name in after},
            "": sum(count for name, count in before.items() if name not in after),
        }
    for number, keep in enumerate(between(before, after, rounds)):
        evidence = gather(
            frozenset(criterion.needs),
            cohort.network,
            cohort.seeds,
            cohort.weights,
            cohort.buffers,
            cohort.network.masks(masks),
            initial=cohort.initial,
            watched=cohort.watched,
            feed=cohort.feed,
            sample=sample or criterion.sample,
            input_shape=cohort.input_shape,
            level=level,
            round_=number,
            loss=cohort.loss,
        )
        scores = {name: criterion.score(**{need: evidence[need][name] for need in criterion.needs}) for name in masks}
        for name, score in scores.items():
            if not isinstance(score, torch.Tensor) or score.shape != masks[name].shape:
                shape = list(score.shape) if isinstance(score, torch.Tensor) else type(score).__name__
                raise LthError(
                    f"criterion {criterion.score.__name__!r} answers {shape} for {name!r}; it must give a "
                    f"score for every weight, {list(masks[name].shape)}"
                )
        masks = select(scores, masks, keep, allow_empty)
    return masks
