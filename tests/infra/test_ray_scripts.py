"""`start-head` and `start-worker` start nothing that would be open or half described, and say what is missing."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "infra" / "ray"
TOKEN = "0123456789abcdef" * 4


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """All that a node needs, with a `ray` that only prints what it was asked."""
    ray = tmp_path / "ray"
    ray.write_text('#!/bin/sh\necho "$@"\nenv | grep -E "^(RAY|MALLOC)_" | sort\n')
    ray.chmod(0o755)
    return {
        "PATH": os.environ["PATH"],
        "RAY_BIN": str(ray),
        "RAY_NODE_IP": "10.0.0.5",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_NUM_CPUS": "4",
        "RAY_NUM_GPUS": "0",
    }


def run(script: str, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPTS / script, *arguments], env=env, capture_output=True, text=True)


def test_head_states_everything_and_keeps_its_dashboard_to_itself(environment: dict[str, str]) -> None:
    started = run("start-head", env=environment)
    assert started.returncode == 0, started.stderr
    for option in (
        "--head",
        "--block",
        "--disable-usage-stats",
        "--node-ip-address 10.0.0.5",
        "--num-cpus 4",
        "--num-gpus 0",
        "--dashboard-host 127.0.0.1",
        "--port 6379",
        "--ray-client-server-port 10001",
    ):
        assert option in started.stdout
    assert "RAY_AUTH_MODE=token" in started.stdout
    assert "RAY_USAGE_STATS_ENABLED=0" in started.stdout and "MALLOC_ARENA_MAX=2" in started.stdout


def test_worker_joins_the_head_that_it_was_given(environment: dict[str, str]) -> None:
    started = run(
        "start-worker",
        "10.0.0.1:6379",
        env={
            **environment,
            "RAY_RESOURCES": '{"rack1": 1}',
            "RAY_WORKER_PORTS": "20000-20999",
            "RAY_NUM_GPUS": "2",
            "RAY_AGENT_PORT": "52366",
        },
    )
    assert started.returncode == 0, started.stderr
    for option in (
        "--address 10.0.0.1:6379",
        "--node-ip-address 10.0.0.5",
        '--resources {"rack1": 1}',
        "--num-gpus 2",
        "--min-worker-port 20000 --max-worker-port 20999",
        "--num-cpus 4",
        "--dashboard-agent-listen-port 52366",
    ):
        assert option in started.stdout
    assert "--head" not in started.stdout


@pytest.mark.parametrize("script", ["start-head", "start-worker"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"RAY_AUTH_TOKEN": ""}, "no token"),
        ({"RAY_AUTH_TOKEN": "short"}, "fewer than 32"),
        ({"RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": "/no/such/file"}, "cannot be read"),
        ({"RAY_NODE_IP": ""}, "RAY_NODE_IP"),
        ({"RAY_NUM_CPUS": "many"}, "RAY_NUM_CPUS=many"),
        ({"RAY_WORKER_PORTS": "20000-70000"}, "RAY_WORKER_PORTS=70000"),
        ({"RAY_BIN": "no-such-ray"}, "no command 'no-such-ray'"),
    ],
)
def test_what_is_missing_is_named(
    environment: dict[str, str], script: str, change: dict[str, str], reason: str
) -> None:
    refused = run(script, *(["10.0.0.1:6379"] if script == "start-worker" else []), env={**environment, **change})
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"{script}: ")
    assert reason in refused.stderr
    assert refused.stdout == ""


@pytest.mark.parametrize(("arguments", "reason"), [([], "no head given"), (["10.0.0.1"], "has no port")])
def test_worker_asks_for_its_head(environment: dict[str, str], arguments: list[str], reason: str) -> None:
    refused = run("start-worker", *arguments, env=environment)
    assert refused.returncode == 2
    assert reason in refused.stderr


def test_a_token_is_random_private_and_never_overwritten(environment: dict[str, str], tmp_path: Path) -> None:
    first, second = tmp_path / "secrets" / "one", tmp_path / "two"
    made = [run("new-token", str(path), env=environment) for path in (first, second)]
    assert [new.returncode for new in made] == [0, 0]
    assert first.read_text() != second.read_text()
    assert len(first.read_text()) == 64
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert first.read_text() not in "".join(new.stdout + new.stderr for new in made)
    again = run("new-token", str(first), env=environment)
    assert again.returncode == 2
    assert "exists" in again.stderr


def test_a_token_file_that_others_may_read_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    given = {name: value for name, value in environment.items() if name != "RAY_AUTH_TOKEN"}
    given["RAY_AUTH_TOKEN_PATH"] = str(token)
    token.chmod(0o644)
    refused = run("start-head", env=given)
    assert refused.returncode == 2
    assert "chmod 600" in refused.stderr
    token.chmod(0o600)
    started = run("start-head", env=given)
    assert started.returncode == 0
    assert TOKEN not in started.stdout.splitlines()[0]  # everybody on the machine can read arguments


@pytest.mark.parametrize("script", ["start-head", "start-worker", "new-token"])
def test_help_explains_every_setting(script: str) -> None:
    helped = run(script, "--help", env={"PATH": os.environ["PATH"]})
    assert helped.returncode == 0
    assert helped.stdout.startswith(f"Usage: {script}")
    assert "set -eu" not in helped.stdout
    if script != "new-token":
        text = (SCRIPTS / script).read_text() + (SCRIPTS / "settings.sh").read_text()
        for name in (
            "RAY_NODE_IP",
            "RAY_AUTH_TOKEN_PATH",
            "RAY_NUM_CPUS",
            "RAY_NUM_GPUS",
            "RAY_OBJECT_STORE_BYTES",
            "RAY_AGENT_PORT",
        ):
            assert name in helped.stdout
            assert name in text
