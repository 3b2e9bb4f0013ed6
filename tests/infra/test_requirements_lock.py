"""What the image installs: every package that ours needs, in the versions that are tested, each with its hash."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"^(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}$")


def versions(file: str) -> dict[str, str]:
    lines = [line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith("#")]
    found = dict(line.split(" ")[0].split("==") for line in lines)
    return {canonicalize_name(name): version for name, version in found.items()}


def test_every_line_is_one_version_with_its_hash() -> None:
    lines = (ROOT / "infra" / "requirements.lock").read_text().splitlines()
    assert all(line.startswith("#") or LINE.match(line) for line in lines)


def test_its_versions_are_those_that_are_tested() -> None:
    locked, tested = versions("infra/requirements.lock"), versions("constraints.txt")
    assert {name: locked[name] for name in locked.keys() & tested.keys()} == {
        name: tested[name] for name in locked.keys() & tested.keys()
    }
    assert all(name.startswith("nvidia-") for name in locked.keys() - tested.keys())  # of torch's CUDA build alone


def test_it_holds_all_that_the_package_needs_and_no_tools_for_tests() -> None:
    locked = versions("infra/requirements.lock")
    seen: set[str] = set()
    waiting = [Requirement(text) for text in metadata.requires("lth") or [] if "extra ==" not in text]
    assert len(waiting) > 15
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
        ):
            continue
        assert name in locked, name
        assert requirement.specifier.contains(locked[name], prereleases=True), requirement
        if name not in seen:
            seen.add(name)
            waiting += [Requirement(text) for text in metadata.requires(name) or [] if "extra ==" not in text]
    assert not {"pytest", "mypy", "ruff", "moto", "hypothesis"} & locked.keys()
    assert {"setuptools", "torch", "ray", "prefect"} <= locked.keys()


def test_the_image_installs_nothing_else() -> None:
    installs = re.findall(r"pip install .*", (ROOT / "infra" / "Dockerfile").read_text())
    assert ["--require-hashes" in line or "--no-deps --no-build-isolation" in line for line in installs] == [True, True]


def test_it_can_be_written_anew() -> None:
    answer = subprocess.run(
        [sys.executable, ROOT / "infra" / "lock-requirements", "--help"], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0 and "constraints.txt" in answer.stdout
