"""Small networks that do something unusual with their parameters, for images of one channel, 8 by 8, and ten classes.

`odd_networks:NAME` where this folder is importable: tests of whole sweeps name them so.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

PIXELS, HIDDEN, CLASSES = 64, 12, 10


def layers(*middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, HIDDEN), nn.ReLU(), *middle, nn.Linear(HIDDEN, CLASSES))


class Functional(nn.Module):
    """Weights of a layer that is never called, filters and a matrix that lie in no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Parameter(0.2 * torch.randn(4, 1, 3, 3))
        self.heads = nn.Parameter(0.1 * torch.randn(2, 4 * 36, HIDDEN))
        self.layer = nn.Linear(2 * HIDDEN, HIDDEN)
        self.matrix = nn.Parameter(0.3 * torch.randn(HIDDEN, CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.conv2d(x, self.filters).relu().flatten(1)
        x = torch.einsum("bi,hio->bho", x, self.heads).flatten(1).relu()
        return functional.linear(x, self.layer.weight, self.layer.bias).relu() @ self.matrix


class Attention(nn.Module):
    """Self-attention with a table of positions, then learnt queries of another width, then a whole encoder layer."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(1, 8, 8))
        self.queries = nn.Parameter(torch.randn(3, HIDDEN))
        self.within = nn.MultiheadAttention(8, 2, batch_first=True)
        self.across = nn.MultiheadAttention(HIDDEN, 2, kdim=8, vdim=8, batch_first=True)
        self.norm = nn.LayerNorm([3, HIDDEN])
        self.encoder = nn.TransformerEncoderLayer(HIDDEN, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(-1, 8, 8) + self.positions
        x = x + self.within(x, x, x, need_weights=False)[0]
        x = self.across(self.queries.expand(len(x), -1, -1), x, x, need_weights=False)[0]
        return self.head(self.encoder(self.norm(x)).mean(1))


class Recurrent(nn.Module):
    """All kinds of recurrent layers and a cell, over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, HIDDEN, batch_first=True)
        self.projected = nn.LSTM(HIDDEN, HIDDEN, batch_first=True, proj_size=6)
        self.gru = nn.GRU(6, 6, batch_first=True)
        self.rnn = nn.RNN(6, 6, batch_first=True, bidirectional=True)
        self.cell = nn.GRUCell(HIDDEN, HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(-1, 8, 8)
        for layer in (self.lstm, self.projected, self.gru, self.rnn):
            x = layer(x)[0]
        hidden = torch.zeros(len(x), HIDDEN)
        for step in x.unbind(1):
            hidden = self.cell(step, hidden)
        return self.head(hidden)


def weight_normed() -> nn.Module:
    return layers(parametrizations.weight_norm(nn.Linear(HIDDEN, HIDDEN)), weight_norm(nn.Linear(HIDDEN, HIDDEN)))


def spectral_normed() -> nn.Module:
    return layers(parametrizations.spectral_norm(nn.Linear(HIDDEN, HIDDEN)), spectral_norm(nn.Linear(HIDDEN, HIDDEN)))


def orthogonal() -> nn.Module:
    return layers(parametrizations.orthogonal(nn.Linear(HIDDEN, HIDDEN)))


class Mixed(nn.Module):
    """A low-rank addition to a frozen weight, a standardised filter, and rows divided by their norm."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv2d(1, 4, 3)
        self.base = nn.Linear(4 * 36, HIDDEN)
        self.base.weight.requires_grad_(False)
        self.down = nn.Parameter(0.1 * torch.randn(2, 4 * 36))
        self.up = nn.Parameter(torch.zeros(HIDDEN, 2))
        self.rows = nn.Parameter(torch.randn(HIDDEN, HIDDEN))
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        standard = self.filters.weight - self.filters.weight.mean((1, 2, 3), keepdim=True)
        x = functional.conv2d(x, standard).relu().flatten(1)
        x = functional.linear(x, self.base.weight + self.up @ self.down, self.base.bias).relu()
        return self.head(functional.linear(x, self.rows / self.rows.norm(dim=1, keepdim=True)).relu())


class Frozen(nn.Module):
    """A frozen layer in the middle, drawn at random, and frozen numbers of other types."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = layers(nn.Linear(HIDDEN, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU())
        self.layers[3].requires_grad_(False)
        self.doubles = nn.Parameter(torch.arange(HIDDEN, dtype=torch.float64) / 3, requires_grad=False)
        self.halves = nn.Parameter(torch.ones(CLASSES, dtype=torch.bfloat16) / 3, requires_grad=False)
        self.whole = nn.Parameter(torch.arange(CLASSES), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) * self.halves + 0.1 * self.whole + self.doubles.float().sum()


class Shared(nn.Module):
    """One weight in two layers, one layer under two names, one norm applied twice, and a tied embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(17, HIDDEN)
        self.a = nn.Linear(HIDDEN, HIDDEN)
        self.b = nn.Linear(HIDDEN, HIDDEN)
        self.b.weight = self.a.weight
        self.again = self.b
        self.norm = nn.BatchNorm1d(HIDDEN)
        self.same_norm = self.norm
        self.scores = nn.Linear(HIDDEN, 17, bias=False)
        self.scores.weight = self.table.weight
        self.head = nn.Linear(17, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.table((4 * (x.flatten(1) + 2)).long().clamp(0, 16)).mean(1)
        x = self.norm(self.b(self.a(x).relu()).relu())
        return self.head(self.scores(self.same_norm(self.again(x)).relu()).relu())


class Scalars(nn.Module):
    """Numbers without axes, tensors without entries, buffers that are None, left out of state dicts or bound anew, a
    layer that never runs, and names with a slash."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.by_name = nn.ParameterDict({"to/classes": nn.Parameter(0.1 * torch.randn(4 * 36, CLASSES))})
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.empty = nn.Parameter(torch.zeros(0, 3))
        self.dead = nn.Linear(7, 7)
        self.register_buffer("number", torch.tensor(3))
        self.register_buffer("nothing", None)
        self.register_buffer("hidden", torch.ones(2), persistent=False)
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.steps = self.steps + 1
        return self.features(x) @ self.by_name["to/classes"] * self.scale
