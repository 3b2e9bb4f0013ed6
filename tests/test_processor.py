"""Every process that computes uses the same instructions of its processor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lth import processor
from lth.processor import PINS

ROOT = Path(__file__).parents[1]
AVX2 = processor._has_avx2()
needs_avx2 = pytest.mark.skipif(not AVX2, reason="the processor has no AVX2")


def said_by(script: str, **environment: str) -> list[str]:
    """The lines that a new process prints, in which nothing is set but `environment`."""
    bare = {name: value for name, value in os.environ.items() if name not in PINS}
    answer = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**bare, "PYTHONPATH": str(ROOT), **environment},
    )
    return answer.stdout.splitlines()


SAY = "from lth.processor import instructions, other_instructions; print(instructions()); print(other_instructions())"


@needs_avx2
@pytest.mark.parametrize("begin", ["import lth", "import torch, lth", "import tasks.remote", "import flows.cli.app"])
def test_whatever_is_imported_first_computes_with_avx2(begin: str) -> None:
    assert said_by(f"{begin}; {SAY}") == ["AVX2", "None"]


@needs_avx2
def test_a_users_own_setting_is_kept_recorded_and_said() -> None:
    found, line = said_by(SAY, ATEN_CPU_CAPABILITY="default")
    assert found == "DEFAULT"
    assert line == (
        "this process computes with DEFAULT and not with AVX2, so that its last bits are others: "
        "ATEN_CPU_CAPABILITY=default is set; unset for results that compare"
    )
    found, line = said_by(SAY, ONEDNN_MAX_CPU_ISA="SSE41")
    assert found == "AVX2 ONEDNN_MAX_CPU_ISA=SSE41" and "ONEDNN_MAX_CPU_ISA=SSE41 is set; unset" in line


@needs_avx2
@pytest.mark.skipif("avx512f" not in Path("/proc/cpuinfo").read_text(), reason="torch would use AVX2 by itself")
def test_torch_that_has_computed_before_is_said() -> None:
    found, line = said_by(f"import torch; torch.rand(3) + 1; {SAY}")
    assert found == "AVX512"
    assert line.endswith("torch had computed before lth was imported; begin with `import lth`")


def test_nothing_is_set_on_a_processor_without_avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PINS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processor, "_has_avx2", lambda: False)
    processor.pin_instructions()
    assert not set(PINS) & set(os.environ)
    assert processor.instructions() == torch.backends.cpu.get_cpu_capability()
    assert processor.other_instructions() is None


def test_another_kind_of_processor_has_no_avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor.platform, "machine", lambda: "aarch64")
    assert not processor._has_avx2()
