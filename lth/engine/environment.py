"""The machine settings that results depend on, set in one place and put back afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lth.engine.recipe import Precision
from lth.errors import InvalidExperiment


def choose_device(device: str, precision: Precision = "float32") -> torch.device:
    """`auto` is the first CUDA device if there is one, else the CPU. Raises InvalidExperiment where it cannot be."""
    if device not in ("auto", "cpu", "cuda"):
        raise InvalidExperiment(f"unknown device {device!r}; choose auto, cpu or cuda")
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise InvalidExperiment("device 'cuda' was asked for, but torch finds no CUDA device here; use --device cpu")
    chosen = torch.device("cuda" if device != "cpu" and available else "cpu")
    if precision == "tf32" and chosen.type == "cpu":
        raise InvalidExperiment("training.precision 'tf32' exists on CUDA devices only; use float32 on a CPU")
    return chosen


@contextmanager
def exact_arithmetic(threads: int, precision: Precision) -> Iterator[None]:
    """Fixed thread count, denormals flushed, deterministic kernels, tf32 only where the experiment asks for it.

    Denormals are flushed because the moments of dead units decay into them, where every operation is some hundred
    times slower; it is always on, so it never tells two runs apart.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = (
        torch.get_num_threads(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    )
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_flush_denormal(False)
        (
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
        ) = before[1:]
