"""Tensors out of the checkpoints of committed units, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lth.store import Store


def gathered(store: Store, experiment_id: str, names: Mapping[int, str], prefix: str) -> dict[str, torch.Tensor]:
    """Tensors [seeds, ...] under `prefix`, gathered seed by seed from the units that hold them.

    Raises DamagedObject naming the first checkpoint that is gone or damaged. It can be gone because a deeper level
    needed it no more when this one was set aside.
    """
    loaded = {
        name: (store.seeds_of(experiment_id, name), store.read_checkpoint(experiment_id, name))
        for name in dict.fromkeys(names.values())
    }
    gathered: dict[str, list[torch.Tensor]] = {}
    for seed, name in names.items():
        seeds, tensors = loaded[name]
        for key, tensor in tensors.items():
            if key.startswith(prefix):
                gathered.setdefault(key.removeprefix(prefix), []).append(tensor[seeds.index(seed)])
    return {key: torch.stack(parts) for key, parts in gathered.items()}
