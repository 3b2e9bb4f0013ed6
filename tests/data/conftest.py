"""No test of data sets uses the network, and real data are found through LTH_DATA_DIR only."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest


@pytest.fixture(autouse=True)
def network_requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses asked for; each request fails as it does without a network."""
    requested: list[str] = []

    def refuse(request: Any, *args: Any, **kwargs: Any) -> Any:
        requested.append(request.full_url if isinstance(request, urllib.request.Request) else request)
        raise URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return requested


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets."""
    root = os.environ.get("LTH_DATA_DIR")
    if not root or not Path(root).is_dir():
        pytest.skip("LTH_DATA_DIR is unset or absent: no real data sets to read")
    return Path(root)
