"""Tensors as one safetensors object that carries its checksum: checkpoints of units, and trainings in progress."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lth.errors import DamagedObject, StoreError
from lth.store.checksum import BLANK, checksum_is_right, put_checksum

if TYPE_CHECKING:
    import torch

METADATA = "lth"
"""The one metadata entry, holding JSON. With several the format does not fix their order, nor so the object's bytes."""


def encode(checkpoint: Mapping[str, torch.Tensor], seeds: Sequence[int]) -> bytes:
    """The safetensors object of tensors `[S, …]`, S in the order of `seeds`; StoreError for any other leading axis."""
    for name, tensor in checkpoint.items():
        if tensor.ndim == 0 or tensor.shape[0] != len(seeds):
            raise StoreError(
                f"checkpoint tensor {name!r} has shape {list(tensor.shape)}; its leading axis must hold "
                f"the unit's {len(seeds)} seeds"
            )
    # Cloned, because safetensors refuses tensors that share their memory, such as views of one flat buffer.
    return _encode(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in checkpoint.items()},
        {"seeds": list(seeds)},
    )


def decode(data: bytes) -> tuple[dict[str, torch.Tensor], tuple[int, ...]]:
    """The tensors, on the CPU, and the seeds of their leading axis.

    DamagedObject (its text is only the reason) unless the object is as it was written.
    """
    tensors, seeds = _decode(data, "seeds")
    return tensors, tuple(seeds)


def encode_progress(state: Mapping[str, torch.Tensor], origin: str) -> bytes:
    """The safetensors object of a training in progress that began as `origin` says; its tensors are on the CPU, apart
    from each other, and of any shape."""
    return _encode(dict(state), {"origin": origin})


def decode_progress(data: bytes) -> tuple[dict[str, torch.Tensor], str]:
    """The state of a training in progress and its origin; DamagedObject as for `decode`."""
    return _decode(data, "origin")


def _encode(tensors: dict[str, torch.Tensor], metadata: Mapping[str, Any]) -> bytes:
    from safetensors.torch import save

    data = save(tensors, {METADATA: json.dumps({"file_sha256": BLANK, **metadata})})
    return put_checksum(data, data.index(BLANK.encode()))  # the first: the metadata stand before the tensors


def _decode(data: bytes, entry: str) -> tuple[dict[str, torch.Tensor], Any]:
    """The tensors, and that entry of the metadata."""
    from safetensors.torch import load

    try:
        header = data[8 : 8 + int.from_bytes(data[:8], "little")]
        metadata = json.loads(json.loads(header)["__metadata__"][METADATA])
        checksum, said = metadata["file_sha256"], metadata[entry]
        tensors = load(data) if checksum_is_right(data, checksum, data.find(checksum.encode())) else None
    except Exception as error:  # whatever a decoder says of these bytes, they are not what was written
        raise DamagedObject(f"it is no readable checkpoint ({type(error).__name__})") from error
    if tensors is None:
        raise DamagedObject("its bytes do not match the SHA-256 in its metadata")
    return tensors, said


def content_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 (hex) of names, types, shapes and bytes of the tensors, whatever their order and device."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
