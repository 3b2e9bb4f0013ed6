"""The compose file and what the image starts: valid by the Compose Specification, shut to other machines, pinned."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
VALIDATOR = Draft202012Validator(json.loads((Path(__file__).parent / "schemas" / "compose-spec.json").read_text()))
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "lth" in service["image"]}
EXAMPLE = dict(
    line.split("=", 1)
    for line in (INFRA / "compose.env.example").read_text().splitlines()
    if line and not line.startswith("#")
)


def filled(text: object, values: dict[str, str]) -> str:
    """Compose's substitution of `${NAME}`, `${NAME:-default}` and `${NAME:?message}`."""
    return re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda match: values.get(match[1], match[2] or ""), str(text))


def test_compose_is_valid_by_the_specification() -> None:
    assert [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(COMPOSE)] == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_misspelt_or_mistyped_field_is_refused(name: str) -> None:
    misspelt, mistyped = copy.deepcopy(COMPOSE), copy.deepcopy(COMPOSE)
    misspelt["services"][name]["comand"] = "x"
    mistyped["services"][name]["restart"] = 5
    assert not VALIDATOR.is_valid(misspelt)
    assert not VALIDATOR.is_valid(mistyped)


@pytest.mark.parametrize("values", [{}, EXAMPLE], ids=["no env file", "the example"])
def test_ports_are_published_on_loopback_only(values: dict[str, str]) -> None:
    published = [filled(port, values) for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 3
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in published)
    assert all(service.get("network_mode") is None for service in SERVICES.values())
    assert COMPOSE["networks"]["database"]["internal"] is True


def test_what_must_be_filled_in_is_asked_for() -> None:
    text = (INFRA / "compose.yaml").read_text()
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    assert needed == {
        "LTH_PREFECT_AUTH",
        "LTH_POSTGRES_PASSWORD",
        "LTH_RAY_TOKEN",
        "LTH_STORE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    }
    assert all("fill-in" in EXAMPLE[name] for name in needed)
    assert set(EXAMPLE) <= set(re.findall(r"\$\{(\w+)", text))  # nothing in the example that nobody reads
    stated = [
        (name, variable, value)
        for name, service in SERVICES.items()
        for variable, value in service.get("environment", {}).items()
        if re.search("PASSWORD|TOKEN|SECRET|AUTH_STRING|ACCESS_KEY", variable)
    ]
    assert len(stated) > 10
    assert all(str(value).startswith("${") for _, _, value in stated)


def test_services_of_ours_share_image_and_settings() -> None:
    assert set(OURS) == {
        "prefect-server",
        "register",
        "prefect-worker",
        "ray-head",
        "ray-worker",
        "ray-gpu-worker",
        "s3-bucket",
    }
    assert len({service["image"] for service in OURS.values()}) == 1
    for service in OURS.values():
        environment = service["environment"]
        assert environment["DO_NOT_TRACK"] == "1"
        assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
        assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
        assert service["cap_drop"] == ["ALL"]
    assert SERVICES["prefect-worker"]["environment"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    storage = [
        {name: service["environment"].get(name) for name in ("LTH_STORE", "LTH_DATA_DIR", "AWS_ENDPOINT_URL")}
        for name, service in OURS.items()
        if "ray" in name or name == "prefect-worker"
    ]
    assert len(storage) == 4
    assert all(here == storage[0] for here in storage)
    assert all("healthcheck" in service for service in SERVICES.values() if service["restart"] == "unless-stopped")
    assert all("memory" in service["deploy"]["resources"]["limits"] for service in SERVICES.values())


def test_foreign_images_have_a_version() -> None:
    for service in SERVICES.values():
        assert re.search(r":[^:]*\d", filled(service["image"], {}))
        assert "latest" not in service["image"]


def test_the_image_is_what_was_tested() -> None:
    text = (INFRA / "Dockerfile").read_text()
    assert "--require-hashes --only-binary :all: --requirement infra/requirements.lock" in text
    assert re.search(r"^FROM python:3\.11", text, re.M)
    assert re.search(r"^USER 1000$", text, re.M)
    for name in (
        "DO_NOT_TRACK=1",
        "PREFECT_SERVER_ANALYTICS_ENABLED=false",
        "RAY_USAGE_STATS_ENABLED=0",
        "MALLOC_ARENA_MAX=2",
    ):
        assert name in text
    copied = {source for line in re.findall(r"^COPY (.+) \S+$", text, re.M) for source in line.split()}
    assert all((ROOT / source).exists() for source in copied)
    ignored = (INFRA / "Dockerfile.dockerignore").read_text().splitlines()
    folders = {source.partition("/")[0] for source in copied}
    assert folders == {line[1:] for line in ignored if line.startswith("!")}


def entrypoint(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [INFRA / "entrypoint", "echo", "started"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], **environment},
    )


def test_entrypoint_starts_what_has_its_secrets() -> None:
    assert entrypoint().stdout == "started\n"
    assert entrypoint(RAY_AUTH_TOKEN="a$b'c\"d e*", AWS_ACCESS_KEY_ID="key").stdout == "started\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAY_AUTH_TOKEN", ""),
        ("RAY_AUTH_TOKEN", "fill-in"),
        ("PREFECT_SERVER_API_AUTH_STRING", "lth:fill-in"),
        ("PREFECT_SERVER_DATABASE_PASSWORD", "fill-in"),
        ("AWS_SECRET_ACCESS_KEY", ""),
    ],
)
def test_entrypoint_refuses_empty_secrets_and_placeholders(name: str, value: str) -> None:
    refused = entrypoint(**{name: value})
    assert refused.returncode == 2
    assert name in refused.stderr
    assert "started" not in refused.stdout


def test_pools_are_those_of_the_deployments() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    pools = {deployment["work_pool"]["name"] for deployment in deployments}
    assert pools == {"default"}
    command = SERVICES["prefect-worker"]["command"]
    assert command[command.index("--pool") + 1] == "default"
    [worker] = yaml.safe_load_all((INFRA / "kubernetes" / "prefect-worker.yaml").read_text())
    [container] = worker["spec"]["template"]["spec"]["containers"]
    assert container["args"][container["args"].index("--pool") + 1] == "default"


def test_the_automation_says_what_prefect_reads_in_it() -> None:
    from prefect.events.schemas.automations import AutomationCore

    [written] = yaml.safe_load((INFRA / "automations.yaml").read_text())["automations"]  # register looks for one name
    read = AutomationCore.model_validate(written).model_dump(mode="json")
    assert set(written) <= set(read)
    assert set(written["trigger"]) <= set(read["trigger"])
    assert set(written["actions"][0]) <= set(read["actions"][0])
    assert read["trigger"]["posture"] == "Proactive"
    assert read["actions"][0]["state"] == "CRASHED"


@pytest.mark.parametrize("page", ["infra/README.md", "docs/operations.md"])
def test_what_the_pages_name_is_there(page: str) -> None:
    text = (ROOT / page).read_text()
    made_by_people = {"infra/compose.env", "infra/kubernetes/secrets.yaml"}
    named = {name.rstrip(".") for name in re.findall(r"(?<![\w/.])infra/[\w./-]+", text)} - made_by_people
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    [automation] = yaml.safe_load((INFRA / "automations.yaml").read_text())["automations"]
    quoted = set(re.findall(r'prefect automation \w+ "([^"]+)"', text))
    assert quoted <= {automation["name"]}
