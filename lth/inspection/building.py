"""Whether a factory builds the same network from the same seed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import nn

from lth.engine import Network
from lth.errors import InvalidExperiment
from lth.inspection.comparison import difference
from lth.streams import own_randomness

DRAW = "draw from torch's global generator, numpy.random or random, which belong to the seed while it is built"


def built_twice(network: Network, seed: int) -> tuple[nn.Module, nn.Module]:
    """Two copies with the initial weights of a seed. Raises InvalidExperiment if they differ."""
    with _clock_read() as read:
        first = _built(network, seed)
    if read():
        time.sleep(1.0 - time.time() % 1.0 + 0.05)  # a seed of whole seconds is another one by then
    second = _built(network, seed)
    different = difference(_tensors(first), _tensors(second))
    if different is not None:
        raise InvalidExperiment(f"built twice from one seed, it is another network: {different} differs; {DRAW}")
    shared = _shared(first, second)
    if shared is not None:
        raise InvalidExperiment(
            f"built twice, both networks hold the same {shared!r}, so that one seed would train another's; build every "
            "layer anew each time"
        )
    return first, second


def _shared(first: nn.Module, second: nn.Module) -> str | None:
    """A trained parameter of one that lies where one of the other does; constants may well be shared."""

    def trained(module: nn.Module) -> dict[str, int]:
        tensors = {
            name: tensor for name, tensor in module.named_parameters() if tensor.requires_grad and tensor.numel()
        }
        return {name: tensor.untyped_storage().data_ptr() for name, tensor in tensors.items()}

    there = set(trained(second).values())
    return next((name for name, place in trained(first).items() if place in there), None)


def _built(network: Network, seed: int) -> nn.Module:
    with own_randomness(seed, "init/own", 0):
        return network.build()


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in [*module.named_parameters(), *module.named_buffers()]}


@contextmanager
def _clock_read() -> Iterator[Callable[[], bool]]:
    """Gives what tells whether a clock was read within it."""
    found = False

    def watch(_frame: FrameType, event: str, called: Any) -> None:
        nonlocal found
        if event == "c_call":
            of_date = getattr(called, "__name__", "") in ("now", "utcnow", "today")
            found = found or getattr(called, "__module__", None) == "time" or of_date

    profiled = sys.getprofile() is not None  # by somebody who must not lose it
    if not profiled:
        sys.setprofile(watch)
    try:
        yield lambda: found
    finally:
        if not profiled:
            sys.setprofile(None)
