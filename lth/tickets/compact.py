"""Removing the units that a mask of single weights has left dead, without changing what the network computes."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from lth.models.calling import copied
from lth.structured import UnitGroup, removable_groups, shrink
from lth.structured.units import per_unit
from lth.tickets.portable import PortableTicket


def without_dead_units(ticket: PortableTicket) -> nn.Module:
    """The deployed network without the units whose outputs nothing reads, and those that are constant.

    A unit goes if every weight that reads it is zero. One whose inputs are all zero is the same number for every image:
    it goes if that number is zero, or if dense layers with biases read it, which then take it over. Repeated until no
    unit goes; every group keeps one. In evaluation mode this is the same function, to rounding.
    """
    network = ticket.module("trained", pruned=False).eval()
    card = ticket.card
    images = torch.randn(4, *card.input_shape, generator=torch.Generator().manual_seed(0))
    while True:
        groups = removable_groups(network, card.input_shape, [*ticket.masks])
        network, removed = _once(network, groups, images)
        if not removed:
            return ticket.deployed(network)


def _once(network: nn.Module, groups: tuple[UnitGroup, ...], images: torch.Tensor) -> tuple[nn.Module, int]:
    """The network without the units that can go now, and how many those are."""
    network = copied(network)
    weights = {name: parameter.detach() for name, parameter in network.named_parameters()}
    inputs = _inputs_of_readers(network, images)
    alive = []
    for group in groups:
        read = (
            torch.cat([per_unit(weights[reader.tensor][None], reader)[0] for reader in group.readers], 1).any(1)
            if group.readers
            else torch.ones(group.units, dtype=torch.bool)
        )
        written = torch.cat([per_unit(weights[writer.tensor][None], writer)[0] for writer in group.writers], 1).any(1)
        kept = read.clone()
        if not kept.any():
            kept[0] = True  # a layer of no units is no layer
        for unit in (kept & read & ~written).nonzero().flatten().tolist():
            if int(kept.sum()) > 1 and _taken_over(network, group, unit, inputs):
                kept[unit] = False
        alive.append(kept)
    removed = sum(int((~kept).sum()) for kept in alive)
    return (shrink(network, groups, alive) if removed else network), removed


def _inputs_of_readers(network: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each layer with a weight takes in, by the weight's name; of weights that are used several times nothing."""
    inputs: dict[str, torch.Tensor] = {}
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    several: set[str] = set()

    def note(name: str, _layer: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        several.update([name] if name in inputs else [])
        inputs[name] = arguments[0].detach()

    hooks = [
        layer.register_forward_pre_hook(partial(note, names[id(layer.weight)]))
        for layer in network.modules()
        if isinstance(getattr(layer, "weight", None), nn.Parameter)
    ]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return {name: taken for name, taken in inputs.items() if name not in several}


def _taken_over(network: nn.Module, group: UnitGroup, unit: int, inputs: dict[str, torch.Tensor]) -> bool:
    """Whether a unit of constant output can go; the biases of dense layers that read it have then taken it over."""
    absorbing = []
    for reader in group.readers:
        taken = inputs.get(reader.tensor)
        if taken is None:
            return False
        columns = reader.index[unit]
        values = taken.movedim(1 if taken.ndim > 2 else -1, 0)[columns].flatten(1)
        if not bool((values == values[:, :1]).all()):
            return False  # reached by something else than its own weights, a norm or a sum of branches
        constant = values[:, 0]
        if bool((constant == 0).all()):
            continue
        layer = network.get_submodule(reader.tensor.rpartition(".")[0])
        if not isinstance(layer, nn.Linear) or layer.bias is None:
            return False
        absorbing.append((layer, columns, constant))
    with torch.no_grad():
        for layer, columns, constant in absorbing:
            layer.bias.add_(layer.weight[:, columns] @ constant)
    return True
