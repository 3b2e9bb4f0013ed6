"""Columns to inputs: numbers standardised on the training split, categories one by one, missing values told apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import nn

from lth.data.examples import TARGET, Column, Tensors

FEATURES = "features"


class _Layout(NamedTuple):
    """Where each feature comes from, in the order of the features; indicators come after these."""

    source: torch.Tensor
    """Column that the feature is made of, int64 [values]."""
    code: torch.Tensor
    """Category whose feature it is, float64 [values]; NaN of a number."""
    is_category: torch.Tensor
    """bool [values]."""
    indicators: torch.Tensor
    """Columns whose missing values are told, int64 [indicators]."""
    categories: bool
    """Whether there is any category."""


@dataclass(frozen=True)
class TableTransform:
    """Each number as (x - mean) * scale, each category as a one among zeros, and a missing value as zeros.

    After the features of all columns, in their order, comes one more for each column of `indicators`: 1 where its value
    is missing, else 0. `standardise`: `channel` measures mean and population deviation of the values that a column
    has; `none` leaves numbers as they are. A target of kind `number` is standardised in either case.
    """

    columns: tuple[Column, ...]
    indicators: tuple[int, ...]
    target_kind: str
    standardise: str = "channel"

    @cached_property
    def features(self) -> int:
        """Numbers that a network takes for an example."""
        values = sum(1 if column.categories is None else len(column.categories) for column in self.columns)
        return values + len(self.indicators)

    def fit(self, raw: Tensors, indices: torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean and scale [columns], float64 (0 and 1 of categories), and of a number to learn `target_mean` and
        `target_scale`. Exactly rounded sums, whatever the machine: about 0.1 us a value."""
        device = raw[FEATURES].device
        chosen = indices.to(device)
        means, scales = [0.0] * len(self.columns), [1.0] * len(self.columns)
        if self.standardise == "channel":
            values = raw[FEATURES][chosen].cpu()
            for position, column in enumerate(self.columns):
                if column.categories is None:
                    means[position], scales[position] = _mean_and_scale(values[:, position])
        fitted = {"mean": _float64(means, device), "scale": _float64(scales, device)}
        if self.target_kind == "number":
            mean, scale = _mean_and_scale(raw[TARGET][chosen].double().cpu())
            fitted |= {"target_mean": _float64(mean, device), "target_scale": _float64(scale, device)}
        return fitted

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        return ()

    def inputs(self, raw: Tensors, fitted: Tensors, draws: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
        features = raw[FEATURES].view(out.shape[0], -1, len(self.columns))
        layout = _layout(self.columns, self.indicators, features.device)
        values, missing = _encoded(features, fitted["mean"].unsqueeze(1), fitted["scale"].unsqueeze(1), layout)
        width = values.shape[-1]
        out[..., :width].copy_(values)
        out[..., width:].copy_(missing)
        return out

    def targets(self, target: torch.Tensor, fitted: Tensors) -> torch.Tensor:
        """Classes as they are; numbers as (target - mean) * scale, float32."""
        if self.target_kind != "number":
            return target
        return ((target.double() - fitted["target_mean"].unsqueeze(1)) * fitted["target_scale"].unsqueeze(1)).float()

    def module(self, fitted: Tensors) -> tuple[nn.Module, nn.Module]:
        layout = _layout(self.columns, self.indicators, fitted["mean"].device)
        outputs: nn.Module = nn.Identity()
        if self.target_kind == "number":
            outputs = RawUnits(fitted["target_mean"], fitted["target_scale"])
        return EncodeColumns(fitted["mean"], fitted["scale"], layout), outputs


class EncodeColumns(nn.Module):
    """Raw columns, float32 [batch, columns], as the features of a network, float32 [batch, features]."""

    mean: torch.Tensor
    scale: torch.Tensor
    source: torch.Tensor
    code: torch.Tensor
    is_category: torch.Tensor
    indicators: torch.Tensor

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor, layout: _Layout) -> None:
        super().__init__()
        self.categories = layout.categories
        tensors = {"mean": mean, "scale": scale, **layout._asdict()}
        del tensors["categories"]
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.detach().clone())

    def forward(self, columns: torch.Tensor) -> torch.Tensor:
        layout = _Layout(self.source, self.code, self.is_category, self.indicators, self.categories)
        values, missing = _encoded(columns.double(), self.mean, self.scale, layout)
        return torch.cat([values.float(), missing.float()], -1)


class RawUnits(nn.Module):
    """A standardised number as one in the units of the target: output / scale + mean."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.detach().clone())
        self.register_buffer("scale", scale.detach().clone())

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        return (outputs.double() / self.scale + self.mean).to(outputs.dtype)


def _encoded(
    columns: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor, layout: _Layout
) -> tuple[torch.Tensor, torch.Tensor]:
    """float64 [..., batch, values] of columns [..., batch, columns], and bool [..., batch, indicators].

    Each step is one rounded operation on each element: the same bits in any cohort and on any device.
    """
    numbers = ((columns - mean) * scale).index_select(-1, layout.source)
    values = torch.where(numbers.isnan(), 0.0, numbers)
    if layout.categories:
        same = columns.index_select(-1, layout.source) == layout.code  # never of a missing value
        values = torch.where(layout.is_category, same.double(), values)
    return values, columns.index_select(-1, layout.indicators).isnan()


@lru_cache(maxsize=64)
def _layout(columns: tuple[Column, ...], indicators: tuple[int, ...], device: torch.device) -> _Layout:
    source, code = [], []
    for position, column in enumerate(columns):
        of_column = [math.nan] if column.categories is None else [float(at) for at in range(len(column.categories))]
        source += [position] * len(of_column)
        code += of_column
    codes = _float64(code, device)
    return _Layout(
        torch.tensor(source, dtype=torch.int64, device=device),
        codes,
        ~codes.isnan(),
        torch.tensor(indicators, dtype=torch.int64, device=device),
        any(column.categories is not None for column in columns),
    )


def _mean_and_scale(values: torch.Tensor) -> tuple[float, float]:
    """Mean and 1 / population deviation of the values that are there; 0 and 1 of none, scale 1 of a constant.

    `math.fsum` rounds a sum once, whatever the order of its terms.
    """
    values = values[~values.isnan()]
    count = len(values)
    if count == 0:
        return 0.0, 1.0
    least, most = (float(bound) for bound in torch.aminmax(values))
    if least == most:  # the quotient of a rounded sum need not be the value itself
        return least, 1.0
    mean = math.fsum(values.tolist()) / count
    squares = (values - mean).square()
    deviation = math.sqrt(math.fsum(squares.tolist()) / count)
    return mean, 1.0 / deviation if deviation else 1.0


def _float64(values: float | list[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device)
