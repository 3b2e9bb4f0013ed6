"""Whether a network that somebody else describes can be built here, asked before any memory is taken for it."""

from __future__ import annotations

import inspect
import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules import module as modules

from lth.errors import InvalidExperiment
from lth.models.registry import MODELS, build_model

MOST_NUMBERS = 2**24
"""In one example: an image of 2,300 by 2,300 pixels."""

MOST_TENSORS = 20_000
"""In one network: several times those of the largest in use."""


class _TooLarge(InvalidExperiment):
    pass


def check_network(
    what: str,
    name: str,
    input_shape: Sequence[int],
    classes: int,
    arguments: Mapping[str, Any],
    most: int | None = None,
) -> None:
    """Refuse a registered network, described by `what`, whose arguments its factory does not take, or that has more
    than `most` numbers in its parameters and buffers; if not given, more than this machine could train.

    It is built without memory (on torch's meta device), and no further than it may be large.
    """
    most = _trainable_here() if most is None else most
    if math.prod(input_shape) > MOST_NUMBERS:
        raise InvalidExperiment(
            f"{what} is of inputs of {'x'.join(map(str, input_shape))}; at most {MOST_NUMBERS:,} numbers are taken of "
            "an experiment or a ticket that is not your own"
        )
    factory = MODELS[name]
    try:
        inspect.signature(factory).bind(input_shape=input_shape, classes=classes, **arguments)
    except TypeError as error:
        raise InvalidExperiment(f"{what}: model {name!r} does not take its arguments: {error}") from None
    given = (name, tuple(input_shape), classes, dict(arguments))
    with _counted(what, most), torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                build_model(*given)
            return
        except _TooLarge:
            raise
        except InvalidExperiment:
            pass  # some networks compute with what they draw; they take no more memory than they may
        with torch.device("cpu"):
            build_model(*given)


def _trainable_here() -> int:
    """Numbers of four bytes that a quarter of this machine's memory holds: weights have gradients and moments."""
    return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 16)


@contextmanager
def _counted(what: str, most: int) -> Iterator[None]:
    """Within it, this thread may make parameters and buffers of `most` numbers; InvalidExperiment for the next."""
    thread, found = threading.get_ident(), [0, 0]

    def note(_module: object, _name: str, tensor: torch.Tensor | None) -> None:
        if tensor is None or threading.get_ident() != thread:
            return
        found[0] += tensor.numel()
        found[1] += 1
        if found[0] > most or found[1] > MOST_TENSORS:
            raise _TooLarge(
                f"{what} describes a network of more than {most:,} numbers or {MOST_TENSORS:,} tensors; nothing of it "
                "was built. Check its model.arguments, or trust it: --trust (in Python trust=True)"
            )

    hooks = [
        modules.register_module_parameter_registration_hook(note),
        modules.register_module_buffer_registration_hook(note),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
