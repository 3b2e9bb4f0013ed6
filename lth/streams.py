"""Named random streams: every draw comes from a generator derived from a seed and a name.

Two streams with different names are independent, and no stream depends on how much another one has drawn, on the
cohort or on the machine. That is what lets the arms of a seed share their initialisation, data order and split, and
what lets a training restart in the middle without saving any generator's state.
"""

from __future__ import annotations

import hashlib

import torch


def stream_seed(seed: int, name: str, *counters: int) -> int:
    """The 63-bit integer that starts the stream `name` of `seed`; `counters` tell epochs or draws apart.

    torch's CPU generator (a Mersenne twister) starts from the low 32 bits alone: among a thousand seeds the chance that
    any two share, say, their initialisation is 1 in 8,600, and then they still differ in order and split.
    """
    text = "/".join([str(seed), name, *map(str, counters)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def stream(seed: int, name: str, *counters: int) -> torch.Generator:
    """A CPU generator for one purpose of one seed, e.g. `stream(3, "order", epoch)`."""
    return torch.Generator().manual_seed(stream_seed(seed, name, *counters))
