"""`infra/pin-images`: every image that is not ours is named by its digest, once somebody has asked the registry."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("Dockerfile", "compose.yaml", "kubernetes/postgres.yaml")
OURS = re.compile(r"LTH_IMAGE|^lth$")


@pytest.fixture
def infra(tmp_path: Path) -> Path:
    """A copy without digests."""
    folder = shutil.copytree(ROOT / "infra", tmp_path / "infra")
    for name in FILES:
        file = folder / name
        file.write_text(re.sub(r"@sha256:[0-9a-f]{64}", "", file.read_text()))
    return folder


def images(folder: Path) -> list[str]:
    found = [
        name for file in FILES for name in re.findall(r"^(?:FROM|\s*image:) (\S+)", (folder / file).read_text(), re.M)
    ]
    return [name for name in found if not OURS.search(name)]


def run(folder: Path, *arguments: str, digest: str = "") -> subprocess.CompletedProcess[str]:
    asked = folder / "digest"
    asked.write_text(f"#!/bin/sh\necho {digest}\n")
    asked.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "DIGEST_OF": str(asked)}
    return subprocess.run(
        [folder / "pin-images", *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_every_image_gets_the_digest_that_the_registry_says_and_a_newer_one_later(infra: Path) -> None:
    assert len(images(infra)) == 4 and not any("@" in name for name in images(infra))
    unpinned = run(infra, "--check")
    assert unpinned.returncode == 1 and "postgres:17.6-bookworm has no digest" in unpinned.stderr
    before = images(infra)
    for digest in ("sha256:" + "a" * 64, "sha256:" + "0b" * 32):
        assert run(infra, digest=digest).returncode == 0
        assert images(infra) == [f"{name}@{digest}" for name in before]
        assert run(infra, "--check").returncode == 0
    assert "LTH_IMAGE:-lth:0.1.0}" in (infra / "compose.yaml").read_text()


@pytest.mark.parametrize("digest", ["", "latest", "sha256:abc"])
def test_what_is_no_digest_is_not_written(infra: Path, digest: str) -> None:
    before = [(infra / name).read_text() for name in FILES]
    assert run(infra, digest=digest).returncode == 1
    assert [(infra / name).read_text() for name in FILES] == before
