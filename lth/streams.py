"""Named random streams: every draw comes from a generator derived from a seed and a name.

Two streams with different names are independent, and no stream depends on how much another one has drawn, on the
cohort or on the machine. That is what lets the arms of a seed share their initialisation, data order and split, and
what lets a training restart in the middle without saving any generator's state.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from lth.draws import portable_draws


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


@contextmanager
def own_randomness(seed: int, name: str, *counters: int, device: torch.device | None = None) -> Iterator[None]:
    """Within it the generators that code draws from without being handed one belong to the stream `name` of `seed`:
    torch's (of a CUDA `device`, too), NumPy's and Python's. Outside they are as they were. What torch draws on the CPU
    is the same on every processor."""
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), portable_draws():
        python, numpy = random.getstate(), np.random.get_state()
        start = stream_seed(seed, name, *counters)
        torch.default_generator.manual_seed(start)  # torch.manual_seed takes 100 us: it asks for every kind of device
        if device is not None and device.type == "cuda":
            torch.cuda.manual_seed_all(start)
        np.random.seed(stream_seed(seed, f"{name}/numpy", *counters) % 2**32)
        random.seed(stream_seed(seed, f"{name}/python", *counters))
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@dataclass
class Watched:
    """What came of watching the generators."""

    drawn: bool = False


@contextmanager
def watched_randomness() -> Iterator[Watched]:
    """Tells at its end whether anything was drawn from torch's CPU generator, NumPy's or Python's."""
    watched, before = Watched(), _states()
    try:
        yield watched
    finally:
        watched.drawn = before != _states()


def _states() -> tuple[object, ...]:
    _, keys, *numpy = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), np.asarray(keys).tobytes(), numpy, random.getstate()
