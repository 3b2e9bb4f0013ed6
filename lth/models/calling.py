"""Running a module with other tensors than its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import nn


def first_names(module: nn.Module) -> dict[str, str]:
    """Every name of a parameter or buffer, as in a state dict, and the first name that the module has for it."""
    first: dict[int, str] = {}
    every = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {name: first.setdefault(id(tensor), name) for name, tensor in every}


def trained_and_held(module: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A module's tensors by name: the parameters that are trained; and frozen ones, and buffers."""
    parameters = dict(module.named_parameters())
    trained = {name: parameter.detach() for name, parameter in parameters.items() if parameter.requires_grad}
    frozen = {name: parameter.detach() for name, parameter in parameters.items() if not parameter.requires_grad}
    return trained, {**frozen, **{name: buffer.detach() for name, buffer in module.named_buffers()}}


def copied(module: nn.Module) -> nn.Module:
    """A deep copy, also of a module that keeps what it has computed from its parameters (weight norm) as attributes."""
    values = [value for layer in module.modules() for value in vars(layer).values()]
    tensors = [each for value in values for each in (value if isinstance(value, list) else [value])]
    computed = [each for each in tensors if isinstance(each, torch.Tensor) and not each.is_leaf]
    return deepcopy(module, {id(each): each.detach().clone() for each in computed})


def call(module: nn.Module, tensors: Mapping[str, torch.Tensor], *inputs: torch.Tensor) -> Any:
    """What `module` answers with `tensors` in place of its parameters and buffers, by their (first) names.

    A tensor, or a layer, that the module has under several names is replaced under all of them. A buffer that is
    changed in place changes the given one; one that the module binds anew is written into it. Afterwards the module has
    its own tensors again, also those that it keeps as plain attributes.
    """
    with _holding(module, tensors):
        return module(*inputs)


@contextmanager
def _holding(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
    owners = list(module.modules())
    places = list(_places(module))
    stores: list[dict[str, Any]] = [store for owner in owners for store in (owner._parameters, owner._buffers)]
    own = [dict(store) for store in stores]
    attributes = [dict(vars(owner)) for owner in owners]
    for store, key, name in places:
        if name in tensors:
            store[key] = tensors[name]
    try:
        yield
        for store, key, name in places:
            now = store.get(key)
            if name in tensors and now is not None and now is not tensors[name]:
                tensors[name].copy_(now.detach())
    finally:
        for store, before in zip(stores, own, strict=True):
            store.clear()
            store.update(before)
        for owner, kept in zip(owners, attributes, strict=True):
            for key, now in list(vars(owner).items()):
                if now is not kept.get(key) and _holds_tensors(now):
                    if key in kept:
                        vars(owner)[key] = kept[key]
                    else:
                        del vars(owner)[key]


def _places(module: nn.Module) -> Iterator[tuple[dict[str, torch.Tensor | None], str, str]]:
    """Where tensors lie: the dict of a layer, the key in it, and the first name that the module has for the tensor."""
    names: dict[int, str] = {}
    layers = list(module.named_modules())
    for kind in ("_parameters", "_buffers"):
        for path, layer in layers:
            store: dict[str, torch.Tensor | None] = getattr(layer, kind)
            for key, tensor in store.items():
                if tensor is not None:
                    yield store, key, names.setdefault(id(tensor), f"{path}.{key}" if path else key)


def _holds_tensors(value: object) -> bool:
    return isinstance(value, torch.Tensor) or (
        isinstance(value, list) and bool(value) and isinstance(value[0], torch.Tensor)
    )
