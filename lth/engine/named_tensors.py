"""Structures of tensors as named tensors and back: how a state is saved and how results travel.

A structure is a dataclass of tensors, integers, other structures, and dicts of them by name. Its tensors are called by
their fields, joined by `/`: nobody writes those names down a second time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import torch

S = TypeVar("S")


def named_tensors(structure: Any, prefix: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a structure by name; integers become tensors, and what is None is left out."""
    if structure is None:
        return {}
    if isinstance(structure, torch.Tensor):
        return {prefix: structure}
    if isinstance(structure, int):
        return {prefix: torch.tensor(structure)}
    if dataclasses.is_dataclass(structure):
        parts = {field.name: getattr(structure, field.name) for field in dataclasses.fields(structure)}
    else:
        parts = dict(structure)
    tensors: dict[str, torch.Tensor] = {}
    for name, part in parts.items():
        tensors.update(named_tensors(part, f"{prefix}/{name}" if prefix else name))
    return tensors


def structured(kind: type[S], tensors: Mapping[str, torch.Tensor]) -> S:
    """The reverse of `named_tensors`: a structure of the type `kind`. Raises KeyError for a tensor that is missing."""
    structure: S = _structured(kind, tensors, "")
    return structure


def _structured(kind: Any, tensors: Mapping[str, torch.Tensor], name: str) -> Any:
    if kind is torch.Tensor:
        return tensors[name]
    if kind is int:
        return int(tensors[name])
    if NoneType in get_args(kind):
        if name not in tensors and not any(key.startswith(f"{name}/") for key in tensors):
            return None
        return _structured(next(each for each in get_args(kind) if each is not NoneType), tensors, name)
    beneath = {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}
    if dataclasses.is_dataclass(kind):
        if not name:
            beneath = dict(tensors)
        hints = get_type_hints(kind)
        return kind(  # type: ignore[operator]
            **{field.name: _structured(hints[field.name], beneath, field.name) for field in dataclasses.fields(kind)}
        )
    if get_origin(kind) in (dict, Mapping):
        content = get_args(kind)[1]
        if content is torch.Tensor:  # the rest of a name is a name, whatever it is made of
            return beneath
        firsts = dict.fromkeys(key.partition("/")[0] for key in beneath)
        return {first: _structured(content, beneath, first) for first in firsts}
    raise TypeError(f"{name!r} is {kind}, which is no structure of tensors")


def mapped(structure: S, change: Callable[[torch.Tensor], torch.Tensor]) -> S:
    """The structure with every tensor changed; integers stay."""
    changed: S = _mapped(structure, change)
    return changed


def _mapped(structure: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(structure, torch.Tensor):
        return change(structure)
    if structure is None or isinstance(structure, int):
        return structure
    if dataclasses.is_dataclass(structure) and not isinstance(structure, type):
        return dataclasses.replace(
            structure,
            **{field.name: _mapped(getattr(structure, field.name), change) for field in dataclasses.fields(structure)},
        )
    return {name: _mapped(part, change) for name, part in structure.items()}
