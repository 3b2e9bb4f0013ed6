"""What travels between the stages of a unit, as named NumPy arrays and back: the one place that names them.

Arrays are what an orchestrator can put into memory that processes share; the names come from the structures' fields.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch

from lth.engine.named_tensors import named_tensors, structured
from lth.shared_memory import tensor_over

Arrays = dict[str, np.ndarray[Any, Any]]
S = TypeVar("S")
_BFLOAT16 = " as int16"  # NumPy has no bfloat16


def to_arrays(structure: Any) -> Arrays:
    """A ticket, masks or a finished training as arrays by name; nothing is copied that lies on the host."""
    arrays = {}
    for name, tensor in named_tensors(structure).items():
        held = tensor.detach().cpu()
        if held.dtype == torch.bfloat16:
            arrays[name + _BFLOAT16] = held.view(torch.int16).numpy()
        else:
            arrays[name] = held.numpy()
    return arrays


def from_arrays(kind: type[S], arrays: Arrays) -> S:
    """The reverse. Arrays in shared memory are read-only, and so are the tensors, by agreement: who writes copies."""
    tensors = {}
    for name, array in arrays.items():
        held = tensor_over(array)
        tensors[name.removesuffix(_BFLOAT16)] = held.view(torch.bfloat16) if name.endswith(_BFLOAT16) else held
    return structured(kind, tensors)
