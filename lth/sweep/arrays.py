"""What travels between the stages of a unit, as named NumPy arrays and back: the one place that names them.

Arrays are what an orchestrator can put into memory that processes share; the names come from the structures' fields.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from lth.engine.named_tensors import named_tensors, structured
from lth.shared_memory import tensor_over

Arrays = dict[str, np.ndarray[Any, Any]]
S = TypeVar("S")


def to_arrays(structure: Any) -> Arrays:
    """A ticket, masks or a finished training as arrays by name; nothing is copied that lies on the host."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in named_tensors(structure).items()}


def from_arrays(kind: type[S], arrays: Arrays) -> S:
    """The reverse. Arrays in shared memory are read-only, and so are the tensors, by agreement: who writes copies."""
    return structured(kind, {name: tensor_over(array) for name, array in arrays.items()})
