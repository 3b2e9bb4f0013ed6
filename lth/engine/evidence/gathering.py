"""Evidence of a whole cohort, one seed after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import torch
from torch.nn import functional

from lth.engine.evidence.cohort import Loss, Sample, ScoredCohort, Tensors
from lth.engine.evidence.registry import EVIDENCE
from lth.engine.feed import Feed
from lth.engine.network import Network


def gather(
    needs: Set[str],
    network: Network,
    seeds: Sequence[int],
    weights: torch.Tensor,
    buffers: Tensors,
    mask: torch.Tensor,
    *,
    initial: torch.Tensor | None = None,
    watched: Mapping[str, torch.Tensor] | None = None,
    feed: Feed | None = None,
    sample: Sample | None = None,
    input_shape: Sequence[int] = (),
    level: int = 0,
    round_: int = 0,
    loss: Loss = functional.cross_entropy,
) -> dict[str, dict[str, torch.Tensor]]:
    """Evidence by name and prunable tensor, [seeds, *shape] each.

    `weights`, `initial`, `mask` and what is `watched`, by watcher, are rows [seeds, width]; pruned weights are taken as
    zero. `loss` is the objective's. `level` and `round_` tell the draws of noise apart, `round_` those of examples.
    Raises ValueError if something that is needed is not given.
    """
    names = [tensor.name for tensor in network.prunable]
    cohort = ScoredCohort(
        network,
        seeds,
        weights.masked_fill(~mask, 0.0),
        buffers,
        mask,
        initial,
        watched or {},
        feed,
        sample or Sample(),
        input_shape,
        level,
        round_,
        loss,
    )
    gathered: dict[str, dict[str, torch.Tensor]] = {}
    computed = {}
    for need in needs:
        evidence = EVIDENCE[need]
        if evidence.of_cohort is not None:
            views = network.layout.views(evidence.of_cohort(cohort))
            gathered[need] = {name: views[name] for name in names}
        elif evidence.of_seed is not None:
            computed[need] = evidence.of_seed
    each: list[dict[str, Tensors]] = []
    for one in cohort.one_by_one() if computed else ():
        each.append({})
        for need, of_seed in computed.items():
            with one.own_randomness():
                each[-1][need] = of_seed(one)
    for need in computed:
        gathered[need] = {name: torch.stack([evidence[need][name] for evidence in each]) for name in names}
    return gathered
