"""What travels between stages keeps its values and types, whatever NumPy has no name for."""

from __future__ import annotations

import torch

from lth.arms import Ticket
from lth.sweep.arrays import from_arrays, to_arrays


def test_buffers_of_every_type_and_shape_return() -> None:
    buffers = {
        "halves": torch.tensor([[0.1, 3.0]], dtype=torch.bfloat16),
        "numbers": torch.tensor([7]),
        "complex": torch.tensor([1 + 2j]),
        "doubles": torch.rand(1, 2, dtype=torch.float64),
        "empty": torch.zeros(1, 0, 3),
        "flags": torch.tensor([True]),
    }
    ticket = Ticket({"a.weight": torch.ones(1, 2, 2, dtype=torch.bool)}, torch.rand(1, 16), buffers)
    again = from_arrays(Ticket, to_arrays(ticket))

    assert torch.equal(again.weights, ticket.weights)
    for name, tensor in buffers.items():
        assert again.buffers[name].dtype == tensor.dtype
        assert torch.equal(again.buffers[name], tensor)
