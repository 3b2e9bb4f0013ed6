"""torchvision imports beside any build of torch, and no other error is hidden."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from lth.errors import DataError
from lth.torchvision_import import import_torchvision


def test_data_sets_transforms_and_models_work_afterwards() -> None:
    # In a fresh process, after the failed attempt of somebody else, twice.
    code = """
try:
    import torchvision
except RuntimeError:
    pass
from lth.torchvision_import import import_torchvision
first = import_torchvision()
import torch, torchvision
assert import_torchvision() is first is torchvision
assert torchvision.datasets.MNIST and torchvision.models.resnet18
from torchvision.transforms import v2
print(v2.functional.horizontal_flip(torch.tensor([[[1, 2]]])).tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[[[2, 1]]]", done.stderr


def test_other_errors_are_not_cured(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(RuntimeError, match="something else"):
        import_torchvision()


def test_absent_torchvision_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(DataError, match="torchvision is not installed"):
        import_torchvision()
