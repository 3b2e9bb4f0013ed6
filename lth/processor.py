"""Which instructions of the processor torch and the libraries below it use: AVX2 on every x86-64 processor that has it.

torch, MKL and oneDNN choose their kernels by the processor that they find, and other kernels sum in another order: the
last bits of a result then tell the machine. They ask the environment at their first operation, so `import lth` comes
before it. Imports nothing that is not Python's own.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

PINS = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""What torch, MKL and oneDNN are told. Whoever has set one of them means it."""

PINNED = "AVX2"


def pin_instructions() -> None:
    """Set PINS for this process and those that it starts, unless the processor lacks AVX2: there torch would fail."""
    if _has_avx2():
        for name, value in PINS.items():
            os.environ.setdefault(name, value)


def _has_avx2() -> bool:
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        return False
    return {"avx2", "fma"} <= set(flags.split())


def instructions() -> str:
    """What torch really uses here, and what MKL or oneDNN have been told that is not of PINS; this is their first
    operation if there was none."""
    import torch

    others = [
        f"{name}={os.environ.get(name, 'unset')}"
        for name, value in PINS.items()
        if name != "ATEN_CPU_CAPABILITY" and os.environ.get(name) != value and _has_avx2()
    ]
    return " ".join([torch.backends.cpu.get_cpu_capability(), *others])


def other_instructions() -> str | None:
    """One line if this process computes with others than it would by itself; None if all is as it should be."""
    found = instructions()
    if not _has_avx2() or found == PINNED:
        return None
    changed = [f"{name}={os.environ[name]}" for name, value in PINS.items() if os.environ.get(name) != value]
    if changed:
        said = f"{', '.join(changed)} {'is' if len(changed) == 1 else 'are'} set; unset for results that compare"
    else:
        said = "torch had computed before lth was imported; begin with `import lth`"
    return f"this process computes with {found} and not with {PINNED}, so that its last bits are others: {said}"
