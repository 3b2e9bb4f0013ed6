"""Stores to test against: a directory, and an S3 server over HTTP in a process of its own."""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator

import pytest

from lth.store import Retries, Store

SECRET = "SENTINEL-THAT-MUST-NOT-APPEAR"
QUICK = Retries(tries=3, first_wait=0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cache_service_models() -> None:
    """Lets botocore read its descriptions of S3 once, not for each of hundreds of clients (0.1 s each)."""
    import botocore.loaders

    botocore.loaders.JSONFileLoader.load_file = functools.cache(botocore.loaders.JSONFileLoader.load_file)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a moto server that lives as long as the test session."""
    pytest.importorskip("moto.server", reason="the S3 server of the tests is moto[server]")
    cache_service_models()
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, "moto did not start"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=10)


@pytest.fixture
def s3_environment(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return s3_server


@pytest.fixture
def bucket(s3_environment: str) -> str:
    """The name of a new, empty bucket."""
    name = f"lth-{uuid.uuid4().hex[:12]}"
    urllib.request.urlopen(urllib.request.Request(f"{s3_environment}/{name}", method="PUT"), timeout=30).close()
    return name


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest) -> Store:
    """An empty store that gives up quickly."""
    make: dict[str, Callable[[], str]] = {
        "file": lambda: str(request.getfixturevalue("tmp_path") / "store"),
        "s3": lambda: f"s3://{request.getfixturevalue('bucket')}/some/prefix",
    }
    return Store(make[request.param](), retries=QUICK)


@pytest.fixture
def file_store(tmp_path: object) -> Store:
    return Store(f"{tmp_path}/store", retries=QUICK)
