"""Differentiation with respect to some of a network's tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from lth.engine.evidence.cohort import Tensors


def requiring_grad(parameters: Tensors, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Copies of these tensors that a graph can be built over."""
    return {name: parameters[name].detach().clone().requires_grad_() for name in names}


def gradients_of(value: torch.Tensor, wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """d(value)/d(tensor) by name; zeros for what the value does not depend on."""
    gradients = torch.autograd.grad(value, list(wanted.values()), allow_unused=True)
    return {name: torch.zeros_like(wanted[name]) if g is None else g for name, g in zip(wanted, gradients, strict=True)}
