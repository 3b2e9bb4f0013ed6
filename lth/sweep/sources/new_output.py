"""Tickets on other data: which networks they fit, and the output layer, which is new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from lth.engine import initialise
from lth.errors import InvalidExperiment
from lth.pruning.sources import Masks
from lth.sweep.networks import ExperimentNetwork
from lth.sweep.sources.source import Start

Tensors = Mapping[str, torch.Tensor]
Shapes = Mapping[str, Sequence[int]]


def with_dense_output(masks: Tensors, ours: ExperimentNetwork, seeds: Sequence[int]) -> Masks:
    """Masks [seeds, *shape] of our network: those that are given, and the output layer's dense."""
    return {
        tensor.name: torch.ones(len(seeds), *tensor.shape, dtype=torch.bool) if tensor.output else masks[tensor.name]
        for tensor in ours.network.prunable
    }


def with_new_output(weights: Tensors, buffers: Tensors, ours: ExperimentNetwork, seeds: Sequence[int]) -> Start:
    """Rows of our network: the weights and buffers that are given, and the output layer's drawn anew.

    They come from a stream of their own, since the seed's initialisation is what a source with as many classes began
    with.
    """
    network = ours.network
    rows = initialise(network, tuple(seeds), "transfer")
    for name, view in network.layout.views(rows).items():
        if name not in ours.output_layer:
            view.copy_(weights[name])
    return rows, {name: buffers[name] for name in network.buffers}


def check_fit(source: str, shapes: Shapes, prunable: set[str], output_layer: set[str], ours: ExperimentNetwork) -> None:
    """Refuse a network that differs in more than its output layer.

    `shapes` are those of all parameters of the source's network, `prunable` those that its masks are of.
    """
    head = ours.output_layer | output_layer
    theirs, here = (
        {name: tuple(shape) for name, shape in every.items() if name not in head}
        for every in (shapes, ours.network.shapes)
    )
    differing = sorted(name for name in {*theirs, *here} if theirs.get(name) != here.get(name))
    if differing:
        raise InvalidExperiment(
            f"the tickets of {source} do not fit this network: {differing[0]} is "
            f"{_shape(theirs.get(differing[0]))} there and {_shape(here.get(differing[0]))} here; use its model, and "
            "images of its size"
        )
    pruned = sorted((prunable ^ {tensor.name for tensor in ours.network.prunable}) - head)
    if pruned:
        raise InvalidExperiment(
            f"the tickets of {source} do not fit this network: {pruned[0]} is pruned in one "
            "of them only; set model.prunable as it was there"
        )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else "x".join(map(str, shape))
