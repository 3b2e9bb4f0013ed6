"""Tensors by name, held against each other to the bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def difference(these: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> str | None:
    """The first name, quoted, whose tensor is missing, of another shape or type, or differs in a bit; None: none."""
    for name in [*these, *(name for name in others if name not in these)]:
        if name not in these or name not in others or not same(these[name], others[name]):
            return repr(name)
    return None


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are equal, NaN to NaN."""
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())
