"""Which units a network has: found by tracing it once, and believed only after trying to remove them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from lth.errors import InvalidExperiment
from lth.models.calling import copied
from lth.streams import stream
from lth.structured.masks import unit_masks
from lth.structured.surgery import shrink
from lth.structured.units import Slices, UnitGroup


def unit_groups(module: nn.Module, input_shape: Sequence[int], prunable: Sequence[str]) -> tuple[UnitGroup, ...]:
    """`removable_groups`; raises InvalidExperiment when there is none, too."""
    groups = removable_groups(module, input_shape, prunable)
    if not groups:
        raise InvalidExperiment(
            "no neuron, filter or channel of the model can be removed: each is a class, is written "
            "by a tensor outside model.prunable, has frozen parameters, or is needed by the network's code; "
            "prune single weights, or mend the network or model.prunable"
        )
    return groups


def removable_groups(module: nn.Module, input_shape: Sequence[int], prunable: Sequence[str]) -> tuple[UnitGroup, ...]:
    """The groups of units that can be removed from `module`, in the order of `prunable` (the order of running).

    What is coupled comes from the dependency graph of Torch-Pruning (Fang et al. 2023, "DepGraph"). Left out are units
    that cannot go: the classes and the input; units with a writer outside `prunable`; and units without which the
    network does not run or does not compute what masking them computes, as found by trying on random weights: those
    that layer norms, grouped convolutions or shortcuts padded to a fixed width need. So in a network of padded
    shortcuts only the inner channels of each block are units, as in Li et al. 2017 (section 3.3).

    A unit that frozen parameters belong to stays, too: they would not be what they were.

    Raises InvalidExperiment when the network cannot be traced.
    """
    from torch_pruning import DependencyGraph

    copy = copied(module).cpu().eval()
    images = torch.randn(2, *input_shape, generator=stream(0, "unit groups/images"))
    graph = DependencyGraph()
    try:
        for parameter in copy.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        graph.build_dependency(copy, (images,), verbose=False)
    except Exception:  # of any kind, and none says more than that it did not follow
        raise InvalidExperiment(
            "the units of the model cannot be found: Torch-Pruning does not follow what it does between its layers, "
            "such as shuffling channels; prune single weights"
        ) from None
    names = {id(tensor): name for name, tensor in [*copy.named_parameters(), *copy.named_buffers()]}
    layers = {names.get(id(layer.weight)): layer for layer in copy.modules() if isinstance(layer, (nn.Linear, _ConvNd))}
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    groups: list[UnitGroup] = []
    for name in prunable:
        written = any(writer.tensor == name for group in groups for writer in group.writers)
        if not written and layers.get(name) in graph.module2node:
            group = _group(graph, layers[name], names, prunable)
            if group is not None and frozen & {slices.tensor for slices in group.slices}:
                group = None
            groups += [] if group is None else [group]

    _randomise(copy)
    if not _agree(copy, groups, images):
        groups = [group for group in groups if _agree(copy, [group], images)]
        groups = groups if _agree(copy, groups, images) else []
    return tuple(groups)


def _group(graph: Any, layer: nn.Module, names: dict[int, str], prunable: Sequence[str]) -> UnitGroup | None:
    """The group of the units that `layer` writes, or None if they cannot be removed."""
    pruner = graph.get_pruner_of_module(layer)
    units = pruner.get_out_channels(layer)
    roles: dict[str, list[Slices]] = {"writers": [], "norms": [], "others": [], "readers": []}
    for item in graph.get_pruning_group(layer, pruner.prune_out_channels, list(range(units))):
        node, writes = item.dep.target, graph.is_out_channel_pruning_fn(item.dep.handler)
        parts = _parts(node.module, writes)
        if parts is None or (writes and not node.outputs):  # nothing follows: these are the logits
            return None
        for role, attribute, dim in parts:
            tensor = getattr(node.module, attribute)
            if tensor is None:
                continue
            index = _index(item.idxs, item.root_idxs, units, tensor.shape[dim])
            if index is None or id(tensor) not in names:
                return None
            roles[role].append(Slices(names[id(tensor)], dim, index))
    if any(writer.tensor not in prunable for writer in roles["writers"]):
        return None
    writers = sorted(roles["writers"], key=lambda writer: prunable.index(writer.tensor))
    return UnitGroup(
        writers[0].tensor, units, tuple(writers), tuple(roles["norms"]), tuple(roles["others"]), tuple(roles["readers"])
    )


def _parts(layer: Any, writes: bool) -> list[tuple[str, str, int]] | None:
    """(role, attribute, dimension) of a layer's tensors that lose slices with a unit; None if the layer cannot."""
    if isinstance(layer, nn.Linear):
        return [("writers", "weight", 0), ("others", "bias", 0)] if writes else [("readers", "weight", 1)]
    if isinstance(layer, _ConvNd):
        rows, columns = (1, 0) if layer.transposed else (0, 1)
        if layer.groups > 1:
            if not layer.groups == layer.in_channels == layer.out_channels:
                return None
            rows = 0  # depthwise: a unit passes through a filter of its own
        return [("writers", "weight", rows), ("others", "bias", 0)] if writes else [("readers", "weight", columns)]
    if isinstance(layer, _BatchNorm):
        return [
            ("norms", "weight", 0),
            ("others", "bias", 0),
            ("others", "running_mean", 0),
            ("others", "running_var", 0),
        ]
    if isinstance(layer, nn.PReLU):
        return [("others", "weight", 0)] if layer.num_parameters > 1 else []
    return [] if isinstance(layer, nn.Module) and not any(True for _ in layer.parameters()) else None


def _index(places: list[int], owners: list[int], units: int, size: int) -> torch.Tensor | None:
    """[units, k]: the places of each unit, in order; None unless every unit has as many, within the tensor."""
    order = sorted(zip(owners, places, strict=True))
    table = torch.tensor(order).view(-1, 2)
    if len(order) % units or not len(order) or int(table[:, 1].max()) >= size:
        return None
    owner, index = table.view(units, -1, 2).unbind(2)
    return index.contiguous() if torch.equal(owner, torch.arange(units)[:, None].expand_as(owner)) else None


def _randomise(module: nn.Module) -> None:
    """Random values everywhere: a zero-initialised branch, say, would hide what is lost with it."""
    generator = stream(0, "unit groups/weights")
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            if tensor.ndim > 1 and tensor.numel():
                values = torch.randn(tensor.shape, generator=generator) * (2 * len(tensor) / tensor.numel()) ** 0.5
            else:
                values = torch.rand(tensor.shape, generator=generator) + 0.5  # scales and variances are positive
            tensor.data.copy_(values)


def _agree(module: nn.Module, groups: Sequence[UnitGroup], images: torch.Tensor) -> bool:
    """Whether the network answers alike with half of each group's units masked and with these units removed."""
    if not groups:
        return True
    generator = stream(0, "unit groups/alive")
    alive = []
    for group in groups:
        units = torch.zeros(group.units, dtype=torch.bool)
        units[torch.randperm(group.units, generator=generator)[: (group.units + 1) // 2]] = True
        alive.append(units)
    masked = copied(module)
    tensors = {**dict(masked.named_parameters()), **dict(masked.named_buffers())}
    masks = unit_masks(
        groups, [units[None] for units in alive], {name: tensor.shape for name, tensor in tensors.items()}
    )
    with torch.no_grad():
        for name, mask in masks.items():
            tensors[name].mul_(mask[0])
        expected = masked(images)
        try:
            answer = shrink(module, groups, alive)(images)
        except Exception:  # whatever the network's code raises when it meets fewer channels than it counts on
            return False
    # Rounding differs by 1e-6 of the largest logit, one wrong group of VGG-19 (16 groups deep) by 3e-4.
    return expected.shape == answer.shape and bool((expected - answer).abs().max() < 2e-5 * expected.abs().max())
