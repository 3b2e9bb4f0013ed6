"""Weights that a layer computes from other parameters before it uses them: torch's parametrisations, in both forms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from lth.errors import InvalidExperiment, in_one_line

_ITERATIONS = 15  # of the power method of a spectral norm, as its constructor makes them


def computed_weights(module: nn.Module) -> Iterator[tuple[nn.Module, str, list[nn.Parameter]]]:
    """Layers, the names of their computed weights, and the parameters that these are computed from."""
    for layer in module.modules():
        if parametrize.is_parametrized(layer):
            for key, steps in layer.parametrizations.items():  # type: ignore[union-attr, operator]
                yield layer, key, [value for name, value in steps.named_parameters() if name.startswith("original")]
        for hook in layer._forward_pre_hooks.values():
            parts = _parts(hook)
            if parts:
                key, *names = parts
                yield layer, key, [getattr(layer, name) for name in names]


def assign(layer: nn.Module, key: str, value: torch.Tensor) -> None:
    """Give the computed weight `key` of a layer that value, or that direction where a norm fixes its size.

    Raises InvalidExperiment where its parametrisation cannot take one.
    """
    with torch.no_grad():
        if parametrize.is_parametrized(layer, key):
            try:
                setattr(layer, key, value)
            except Exception as error:
                raise _not_taken(layer, key, in_one_line(error)) from None
            for step in layer.parametrizations[key]:  # type: ignore[index]
                if isinstance(step, parametrizations._SpectralNorm) and value.ndim > 1:
                    step._power_method(step._reshape_weight_to_matrix(value), _ITERATIONS)
        for hook in layer._forward_pre_hooks.values():
            parts = _parts(hook)
            if parts and parts[0] == key:
                getattr(layer, parts[1]).copy_(value)
                if isinstance(hook, WeightNorm):
                    getattr(layer, parts[2]).copy_(torch.norm_except_dim(value, 2, hook.dim))
                if isinstance(hook, SpectralNorm):
                    for _ in range(_ITERATIONS):
                        hook.compute_weight(layer, do_power_iteration=True)
        if parametrize.is_parametrized(layer, key):
            held = getattr(layer, key)
            alike = held.shape == value.shape and torch.cosine_similarity(held.flatten(), value.flatten(), 0) > 0.999
            if not alike:
                raise _not_taken(layer, key, "it becomes another one")


def _not_taken(layer: nn.Module, key: str, why: str) -> InvalidExperiment:
    return InvalidExperiment(
        f"the {key} of a {type(layer).__name__.removeprefix('Parametrized')} is parametrised so that no "
        f"drawn value can be assigned to it ({why}); set model.initialisation to own"
    )


def _parts(hook: Any) -> tuple[str, ...]:
    """The computed weight of a hook of the older form, and the parameters that it is computed from."""
    if isinstance(hook, WeightNorm):
        return (hook.name, f"{hook.name}_v", f"{hook.name}_g")
    if isinstance(hook, SpectralNorm):
        return (hook.name, f"{hook.name}_orig")
    if isinstance(hook, prune.BasePruningMethod):
        return (hook._tensor_name, f"{hook._tensor_name}_orig")
    return ()


def let_rows_be_zero(module: nn.Module) -> None:
    """Weight norms of a module divide by nothing from now on: a row of zeros stays one, where torch makes it NaN."""
    for layer in module.modules():
        if type(layer) is parametrizations._WeightNorm:
            layer.__class__ = _WeightNormOfZeros
        for hook in layer._forward_pre_hooks.values():
            if type(hook) is WeightNorm:
                hook.__class__ = _OlderWeightNormOfZeros


class _WeightNormOfZeros(parametrizations._WeightNorm):
    def forward(self, weight_g: torch.Tensor, weight_v: torch.Tensor) -> torch.Tensor:
        return _normed(weight_v, weight_g, self.dim)


class _OlderWeightNormOfZeros(WeightNorm):
    def compute_weight(self, module: nn.Module) -> torch.Tensor:
        return _normed(getattr(module, f"{self.name}_v"), getattr(module, f"{self.name}_g"), self.dim)


def _normed(direction: torch.Tensor, size: torch.Tensor, dim: int) -> torch.Tensor:
    """size * direction / |direction|, the norm over all dimensions but `dim`; zero where the direction is."""
    squares = direction.square()
    over = [each for each in range(direction.ndim) if each != dim]
    norm = squares.sum(over, keepdim=True) if dim >= 0 else squares.sum()
    return direction * (size * torch.where(norm > 0, norm, 1.0).rsqrt())
