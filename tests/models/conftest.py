from __future__ import annotations

from collections.abc import Iterator

import pytest

from lth.engine import exact_arithmetic


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These networks are small, and beside other work threads only wait for each other."""
    with exact_arithmetic(1, "float32"):
        yield
