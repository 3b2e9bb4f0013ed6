"""Some of the networks of `make networks`, and its page."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def networks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("networks_benchmark", ROOT / "benchmarks" / "networks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "formats"),
    [
        ("lenet5", ("safetensors", "torch", "csr", "dense")),
        ("resnet", ("safetensors", "csr")),
        ("torchvision squeezenet1_1", ("safetensors", "csr")),
    ],
)
def test_it_comes_back_from_its_files(
    networks: ModuleType, name: str, formats: tuple[str, ...], tmp_path: Path
) -> None:
    row = networks.try_network(name, tmp_path, formats)
    assert row["trained"] and "refused" not in row
    assert row["formats"] == dict.fromkeys(formats, "ok")


def test_what_is_refused_is_a_reason(networks: ModuleType, tmp_path: Path) -> None:
    row = networks.try_network("torchvision nothing", tmp_path)
    assert not row["trained"] and "'nothing' is no classifier of torchvision" in row["refused"]


def test_the_page_counts_every_row_once(networks: ModuleType) -> None:
    def row(name: str, **others: Any) -> dict[str, Any]:
        done = dict.fromkeys(networks.FORMATS, "ok")
        return {"name": name, "side": 32, "weights": 200, "prunable": 100, "trained": True, "formats": done, **others}

    page = networks.page(
        [
            row("a"),
            row("b", formats={**row("b")["formats"], "onnx": "it cannot"}),
            row("c", trained=False, formats={}, weights=None, refused="too large"),
        ]
    )
    assert "**3 tried, 1 whole, 1 in part, 1 refused before they trained.**" in page
    assert "| a | 32 | 200 | 50.0% | . | . | . | . | . | . |" in page
    assert "| b | 32 | 200 | 50.0% | . | . | . | 1 | . | . |" in page
    assert "| c | 32 |  |  | 2 |  |  |  |  |  |" in page
    assert page.endswith("1. it cannot\n2. too large\n")
