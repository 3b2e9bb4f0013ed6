from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    """One temporary Prefect server for the whole session."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def two_cores() -> Iterator[None]:
    """One local Ray of two cores for every sweep that does not test how Ray is started."""
    import ray

    from tasks.cluster import connected

    with connected(2):
        assert ray.is_initialized()
        yield
