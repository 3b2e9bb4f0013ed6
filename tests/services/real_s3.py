"""A real S3 server for the tests: Ceph's radosgw, one for the whole session, and a proxy that makes it misbehave."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from faulty_proxy import FaultyProxy
from store.conftest import SECRET, cache_service_models

KEY_ID = "a-key-id"


def load_object_store() -> ModuleType:
    """`infra/local/object_store.py`, which is a program and in no package."""
    path = Path(__file__).parents[2] / "infra" / "local" / "object_store.py"
    spec = importlib.util.spec_from_file_location("object_store", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


object_store = load_object_store()


@dataclass(frozen=True)
class RealS3:
    """A running server and its folder."""

    folder: Path
    address: str

    def client(self) -> Any:
        """A botocore client with the server's own random keys."""
        import botocore.session

        found = object_store.settings(self.folder)
        return botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.address,
            aws_access_key_id=found["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=found["AWS_SECRET_ACCESS_KEY"],
        )

    def kill(self, *names: str) -> None:
        """kill -9 of `mon.a`, `osd.0` or `client.rgw`; returns when they are dead."""
        for name in names:
            os.kill(object_store.pids(self.folder)[name], signal.SIGKILL)
        deadline = time.monotonic() + 60
        while set(names) & set(object_store.pids(self.folder)):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def start(self) -> None:
        object_store.start(self.folder)


@pytest.fixture(scope="session")
def radosgw() -> Iterator[RealS3]:
    """The server, with a second pair of keys whose secret is the one that must not appear anywhere."""
    if missing := object_store.missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)}")
    cache_service_models()
    parent = Path(tempfile.mkdtemp(prefix="lth-s3-"))  # not pytest's, whose long paths are none for a Unix socket
    try:
        folder = parent / "s3"
        object_store.init(folder)
        subprocess.run(
            [
                "radosgw-admin",
                "-c",
                str(folder / "ceph.conf"),
                "-n",
                "client.rgw",
                "key",
                "create",
                "--uid",
                "lth",
                "--access-key",
                KEY_ID,
                "--secret-key",
                SECRET,
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
        yield RealS3(folder, object_store.settings(folder)["AWS_ENDPOINT_URL"])
    finally:
        object_store.stop(parent / "s3")
        shutil.rmtree(parent)


@pytest.fixture
def s3_environment(radosgw: RealS3, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", radosgw.address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return radosgw.address


@pytest.fixture
def bucket(radosgw: RealS3, s3_environment: str) -> str:
    """The name of a new, empty bucket."""
    name = f"lth-{uuid.uuid4().hex[:12]}"
    radosgw.client().create_bucket(Bucket=name)
    return name


@pytest.fixture
def proxy(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """What the store's clients talk to, in front of the server."""
    with FaultyProxy(s3_environment) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        yield proxy
