"""Checkpoints: a cohort's tensors as one safetensors object that carries its seeds and its own checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lth.errors import DamagedObject, StoreError

if TYPE_CHECKING:
    import torch

METADATA = "lth"
"""The one metadata entry, holding JSON. With several the format does not fix their order, nor so the object's bytes."""


def encode(checkpoint: Mapping[str, torch.Tensor], seeds: Sequence[int]) -> bytes:
    """The safetensors object of tensors `[S, …]`, S in the order of `seeds`; StoreError for any other leading axis."""
    from safetensors.torch import save

    for name, tensor in checkpoint.items():
        if tensor.ndim == 0 or tensor.shape[0] != len(seeds):
            raise StoreError(f"checkpoint tensor {name!r} has shape {list(tensor.shape)}; its leading axis must hold "
                             f"the unit's {len(seeds)} seeds")
    # Cloned, because safetensors refuses tensors that share their memory, such as views of one flat buffer.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in checkpoint.items()}
    metadata = {"seeds": list(seeds), "content_sha256": content_of(tensors)}
    return save(tensors, {METADATA: json.dumps(metadata, sort_keys=True)})


def decode(data: bytes) -> tuple[dict[str, torch.Tensor], tuple[int, ...]]:
    """The tensors, on the CPU, and the seeds of their leading axis.

    DamagedObject (its text is only the reason) unless the tensors match the checksum that was written with them.
    """
    from safetensors.torch import load

    try:
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(json.loads(data[8:8 + length])["__metadata__"][METADATA])
        seeds, expected = tuple(int(seed) for seed in metadata["seeds"]), metadata["content_sha256"]
        tensors = load(data)
        found = content_of(tensors)
    except Exception as error:  # whatever a decoder says of these bytes, they are not what was written
        raise DamagedObject(f"it is no readable checkpoint ({type(error).__name__})") from error
    if found != expected or any(tensor.ndim == 0 or tensor.shape[0] != len(seeds) for tensor in tensors.values()):
        raise DamagedObject("its tensors do not match their SHA-256 or its seeds")
    return tensors, seeds


def content_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 (hex) of names, types, shapes and bytes of CPU tensors, whatever their order."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
