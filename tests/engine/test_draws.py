"""Every random number comes out the same on every x86-64 processor."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from lth.draws import PortableDraws

FUSES = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
MEANS, DEVIATIONS = torch.arange(-50, 50) / 64, torch.arange(100) / 128
STRIDED: tuple[Callable[[], torch.Tensor], ...] = (
    lambda: torch.empty(7, 31).t(),
    lambda: torch.empty(2, 3, 5, 5).to(memory_format=torch.channels_last),
    lambda: torch.empty(20, 40)[:, ::2],
)
DRAWS: dict[str, Callable[[], torch.Tensor]] = {
    "uniform_": lambda: torch.empty(1003).uniform_(-0.0371, 0.0371),
    "uniform_ of float64": lambda: torch.empty(1003, dtype=torch.float64).uniform_(-0.1, 0.3),
    "uniform_ of unlike bounds": lambda: torch.empty(1003).uniform_(-0.0371, 1e9),
    "uniform_ by name": lambda: torch.empty(1003).uniform_(to=0.3),
    "rand": lambda: torch.rand(1003),
    "randn": lambda: torch.randn(1003),
    "randn of whole groups": lambda: torch.randn(16),
    "randn of few": lambda: torch.randn(15),
    "randn of float64": lambda: torch.randn(100, dtype=torch.float64),
    "randn into": lambda: torch.randn(100, out=torch.empty(100)),
    "randn_like": lambda: torch.randn_like(torch.zeros(10, 30)),
    "normal_": lambda: torch.empty(300, 17).normal_(0.1, 0.0371),
    "normal_ by name": lambda: torch.empty(100).normal_(std=0.3),
    "normal of numbers": lambda: torch.normal(0.1, 0.3, (100,)),
    "normal of means": lambda: torch.normal(MEANS, 0.3),
    "normal of deviations": lambda: torch.normal(0.1, DEVIATIONS),
    "normal of both": lambda: torch.normal(MEANS, DEVIATIONS),
    "normal of means alone": lambda: torch.normal(MEANS),
    "truncated": lambda: nn.init.trunc_normal_(torch.empty(200), std=0.02),
    "kaiming_uniform_": lambda: nn.init.kaiming_uniform_(torch.empty(20, 30)),
    "a layer": lambda: nn.Conv2d(3, 8, 3).weight.detach(),
    "a transformer's layer": lambda: nn.MultiheadAttention(16, 2).in_proj_weight.detach(),
    "an embedding": lambda: nn.Embedding(20, 16).weight.detach(),
    "dropout": lambda: nn.functional.dropout(torch.ones(1003), 0.3),
    "a permutation": lambda: torch.randperm(1003),
    "integers": lambda: torch.randint(0, 7, (1003,)),
    "exponential_": lambda: torch.empty(1003).exponential_(),
    **{
        f"uniform_ of strides {n}": partial(lambda make: make().uniform_(-0.1, 0.3), make)
        for n, make in enumerate(STRIDED)
    },
    **{
        f"normal_ of strides {n}": partial(lambda make: make().normal_(0.1, 0.3), make)
        for n, make in enumerate(STRIDED)
    },
}


@pytest.mark.skipif(not FUSES, reason="a processor without AVX2 draws other numbers by itself")
@pytest.mark.parametrize("name", DRAWS)
def test_portable_numbers_are_torchs_own_where_there_is_avx2(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        own, after = DRAWS[name](), torch.get_rng_state()
        torch.manual_seed(7)
        with PortableDraws():
            portable = DRAWS[name]()
        assert torch.equal(torch.get_rng_state(), after)
    assert portable.stride() == own.stride() and torch.equal(portable, own)


def test_other_devices_draw_as_they_do() -> None:
    with PortableDraws():
        assert torch.empty(3, device="meta").uniform_(-1, 1).normal_().device.type == "meta"
        assert torch.randn(3, device="meta").device.type == "meta"


def test_a_million_normal_numbers_are_normal() -> None:
    with PortableDraws():
        drawn = torch.randn(10**6, generator=torch.Generator().manual_seed(0)).double()
    moments = [drawn.mean(), drawn.var(), (drawn**3).mean(), (drawn**4).mean()]
    for moment, expected, deviation in zip(moments, (0, 1, 0, 3), (1, 2**0.5, 15**0.5, 96**0.5), strict=True):
        assert abs(moment.item() - expected) < 5 * deviation / 1000


SCRIPT = """
import hashlib, sys, torch
sys.path.insert(0, {tests!r})
import test_draws
print(torch.backends.cpu.get_cpu_capability(), test_draws.digest())
"""


def digest() -> str:
    """SHA-256 of all that is drawn, and of initial weights of every kind."""
    from lth.draws import portable_draws
    from lth.engine import describe, initialise
    from lth.models import build_model, prunable_tensors

    sha = hashlib.sha256()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]), portable_draws():
        torch.manual_seed(7)
        for draw in DRAWS.values():
            sha.update(draw().contiguous().numpy().tobytes())
    for kind in ("glorot_normal", "kaiming_normal", "own"):
        for name, shape, arguments in (("mlp", (64,), {}), ("resnet", (3, 8, 8), {"depth": 8, "width": 4})):
            tensors = prunable_tensors(build_model(name, shape, 10, arguments), shape, 10)
            network = describe(partial(build_model, name, shape, 10, arguments), shape, 10, tensors, kind)
            sha.update(initialise(network, [0, 5]).numpy().tobytes())
    return sha.hexdigest()


@pytest.mark.parametrize(
    "environment",
    [
        {"ATEN_CPU_CAPABILITY": "default"},
        {
            "ATEN_CPU_CAPABILITY": "default",
            "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512_SKX",
            "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
            "ONEDNN_MAX_CPU_ISA": "SSE41",
        },
    ],
    ids=["torch", "torch, NumPy, MKL and oneDNN"],
)
def test_without_vector_instructions_all_draws_and_initial_weights_are_the_same(environment: dict[str, str]) -> None:
    script = SCRIPT.format(tests=os.path.dirname(__file__))
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    assert answer.stdout.split() == ["DEFAULT", digest()]
