"""Whether a network can give the evidence that its criterion is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from lth.engine import EVIDENCE, Network, Recipe, Sample
from lth.engine.evidence import gather
from lth.engine.feed import Feed
from lth.errors import InvalidExperiment, in_one_line


def check_evidence(
    needs: Sequence[str],
    network: Network,
    weights: torch.Tensor,
    buffers: Mapping[str, torch.Tensor],
    recipe: Recipe,
    feed: Feed,
    sample: Sample,
) -> None:
    """Gather each of `needs` on two examples of a copy of the network with `weights` [1, width].

    Raises InvalidExperiment naming the first that fails or is not finite.
    """
    tiny = replace(sample, examples=2, per_class=None, batch_size=2)
    watched = {name: torch.zeros_like(weights) for need in needs if (name := EVIDENCE[need].watcher) is not None}
    for need in needs:
        try:
            found = gather(
                {need},
                network,
                feed.seeds,
                weights,
                {name: buffer.to(weights.device).clone() for name, buffer in buffers.items()},
                torch.ones_like(weights, dtype=torch.bool),
                initial=weights,
                watched=watched,
                feed=feed,
                sample=tiny,
                input_shape=network.input_shape,
                loss=recipe.objective.loss,
            )[need]
        except Exception as error:
            raise InvalidExperiment(
                f"it cannot give {need!r}, which pruning.criterion asks for: {in_one_line(error)}; "
                "choose another criterion"
            ) from None
        wrong = [name for name, tensor in found.items() if not bool(torch.isfinite(tensor).all())]
        if wrong:
            raise InvalidExperiment(
                f"{need!r} of {wrong[0]!r}, which pruning.criterion asks for, is not finite at the start; choose "
                "another criterion"
            )
