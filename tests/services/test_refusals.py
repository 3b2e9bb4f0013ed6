"""Who has no credentials gets nothing, and secrets stay where they belong.

The secrets are those of the service itself: random, so that wherever one of them is found it is the real one.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import websockets
from local_service import LTH, PROJECT, LocalService, until
from websockets.typing import Subprotocol

pytestmark = [pytest.mark.services, pytest.mark.timeout(1200)]

LOGINS = {"none": None, "wrong": "lth:wrong", "empty": ":", "another user": "admin:pass"}
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


# Prefect


@pytest.mark.parametrize("login", LOGINS.values(), ids=LOGINS)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/flow_runs/filter"),
        ("POST", "/deployments/filter"),
        ("POST", "/logs/filter"),
        ("GET", "/admin/version"),
        ("POST", "/block_documents/filter"),
        ("POST", "/variables/filter"),
        ("POST", "/admin/database/clear"),
        ("GET", "/work_pools/default"),
        ("POST", "/artifacts/filter"),
        ("POST", "/events/filter"),
        ("GET", "/admin/settings"),
    ],
)
def test_prefects_api_answers_nobody_without_the_password(
    service: LocalService, login: str | None, method: str, path: str
) -> None:
    auth = tuple(login.split(":", 1)) if login else None
    answer = httpx.request(
        method,
        service.environment["PREFECT_API_URL"] + path,
        json={"confirm": True},
        timeout=60,
        auth=auth,
        trust_env=False,
    )  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert answer.json() == {"exception_message": "Unauthorized"}


@pytest.mark.parametrize(
    "path",
    [
        "/events/in",
        "/events/out",
        "/logs/out",
        "/task_runs/subscriptions/scheduled",
        "/work_pools/default/workers/connect",
    ],
)
@pytest.mark.parametrize("token", [None, "", "wrong"])
def test_prefects_websockets_close_on_whoever_does_not_know_the_password(
    service: LocalService, path: str, token: str | None
) -> None:
    url = service.environment["PREFECT_API_URL"].replace("http", "ws", 1) + path

    async def first_answers() -> list[dict[str, Any]]:
        """What is said until the server closes."""
        found = []
        protocols = [] if token is None else [Subprotocol("prefect")]
        async with websockets.connect(url, subprotocols=protocols or None, proxy=None) as connection:
            if token is not None:
                await connection.send(json.dumps({"type": "auth", "token": token}))
            async for message in connection:
                found.append(json.loads(message))
        return found

    with pytest.raises((websockets.ConnectionClosedError, websockets.InvalidStatus)) as refused:
        asyncio.run(asyncio.wait_for(first_answers(), 60))
    if isinstance(refused.value, websockets.ConnectionClosedError):
        assert refused.value.rcvd and refused.value.rcvd.code in (1002, 1008)
    else:
        assert refused.value.response.status_code == 403


def test_prefects_websockets_open_with_the_password(service: LocalService) -> None:
    """Otherwise the refusals above would say nothing."""
    url = service.environment["PREFECT_API_URL"].replace("http", "ws", 1) + "/events/out"

    async def welcome() -> Any:
        async with websockets.connect(url, subprotocols=[Subprotocol("prefect")], proxy=None) as connection:
            await connection.send(json.dumps({"type": "auth", "token": service.environment["PREFECT_API_AUTH_STRING"]}))
            return json.loads(await connection.recv())["type"]

    assert asyncio.run(asyncio.wait_for(welcome(), 60)) == "auth_success"


def test_the_command_line_names_the_password_that_prefect_refused(service: LocalService, tmp_path: Path) -> None:
    process = service.lth(
        "run", "smoke", "--seeds", "0", "--store", str(tmp_path), PREFECT_API_AUTH_STRING="lth:PLANTED-AND-WRONG"
    )
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "PLANTED" not in output and service.secret("prefect") not in output
    assert "PREFECT_API_AUTH_STRING" in output.splitlines()[-1], output


def test_postgres_refuses_wrong_passwords(service: LocalService) -> None:
    import asyncpg

    port = json.loads((service.state / "ports.json").read_text())["postgres"]
    for password in ("", "wrong"):
        with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.PostgresError)):
            asyncio.run(
                asyncpg.connect(
                    host="127.0.0.1", port=port, user="prefect", password=password, database="postgres", ssl=False
                )
            )


# Ray

TOKENS: dict[str, dict[str, str]] = {
    "none": {"RAY_AUTH_MODE": "disabled"},
    "wrong": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "PLANTED-AND-WRONG"},
}


def without_token(service: LocalService, settings: Mapping[str, str], home: Path) -> dict[str, str]:
    known = {name: value for name, value in service.environment.items() if not name.startswith("RAY_AUTH")}
    return {**known, **settings, "HOME": str(home)}


@pytest.mark.parametrize("settings", TOKENS.values(), ids=TOKENS)
@pytest.mark.parametrize("door", ["ray", "ray-client"])
def test_ray_lets_no_driver_in_without_the_token(
    service: LocalService, settings: dict[str, str], door: str, tmp_path: Path
) -> None:
    port = json.loads((service.state / "ports.json").read_text())[door]
    address = f"127.0.0.1:{port}" if door == "ray" else f"ray://127.0.0.1:{port}"
    code = "import sys, ray; ray.init(address=sys.argv[1]); print('inside', ray.nodes())"
    done = subprocess.run(
        [sys.executable, "-c", code, address],
        capture_output=True,
        text=True,
        timeout=400,
        env=without_token(service, settings, tmp_path),
        check=False,
    )
    assert done.returncode != 0 and "inside" not in done.stdout
    if door == "ray":  # a client hears nothing, and gives up after half a minute
        assert "auth" in done.stderr.lower(), done.stderr
    assert service.secret("ray-token") not in done.stdout + done.stderr


@pytest.mark.parametrize("door", ["ray", "ray-client"])
def test_ray_lets_drivers_in_with_the_token(service: LocalService, door: str) -> None:
    """Otherwise the refusals above would say nothing."""
    port = json.loads((service.state / "ports.json").read_text())[door]
    address = f"127.0.0.1:{port}" if door == "ray" else f"ray://127.0.0.1:{port}"
    code = "import sys, ray; ray.init(address=sys.argv[1]); print('inside', len(ray.nodes()))"

    def inside() -> bool:  # the server that Ray starts for each client has half a minute, which may be too short
        return (
            "inside"
            in subprocess.run(
                [sys.executable, "-c", code, address],
                capture_output=True,
                text=True,
                timeout=400,
                env=service.environment,
                check=False,
            ).stdout
        )

    until(inside, "a driver's welcome")


def test_the_command_line_says_that_ray_refused_the_token(service: LocalService, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(LTH), "run", "smoke", "--seeds", "0", "--store", str(tmp_path / "store")],
        env=without_token(service, TOKENS["wrong"], tmp_path),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 1
    assert "RAY_AUTH_MODE" in done.stderr and "token" in done.stderr and "PLANTED" not in done.stdout + done.stderr


def processes_of(service: LocalService) -> list[psutil.Process]:
    """Everything that runs for the service, orphans included."""
    sys.path.insert(0, str(PROJECT))
    from infra.local.processes import all_processes, belongs
    from infra.local.settings import open_service

    known = open_service(service.state)
    assert known
    sessions = [int(line) for line in (service.state / "run" / "sessions").read_text().split()]
    found = []
    for process in all_processes():
        if belongs(process, known.mark, sessions, [service.state, known.ray_folder]):
            found.append(psutil.Process(process.pid))
    return found


def listening(processes: list[psutil.Process]) -> dict[tuple[str, int], str]:
    """(address, port) of every socket that listens, and whose it is."""
    found = {}
    for process in processes:
        try:
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    found[connection.laddr.ip, connection.laddr.port] = " ".join(process.cmdline())[:300]
        except psutil.Error:
            continue
    return found


def test_every_port_of_the_service_is_on_loopback(service: LocalService) -> None:
    processes = processes_of(service)
    found = listening(processes)
    named = json.loads((service.state / "ports.json").read_text())
    assert set(named.values()) <= {port for _, port in found}, "a part listens elsewhere than it says"
    if (service.state / "s3").exists():
        assert any("radosgw" in title for title in found.values())
    elsewhere = {place: title for place, title in found.items() if place[0] not in LOOPBACK}
    assert not elsewhere
    assert not [c for p in processes for c in _datagrams(p) if c not in LOOPBACK]


def _datagrams(process: psutil.Process) -> list[str]:
    try:
        return [c.laddr.ip for c in process.net_connections("udp") if c.laddr and not c.raddr]
    except psutil.Error:
        return []


def test_a_stranger_on_another_address_reaches_nothing(service: LocalService) -> None:
    """The machine's own address, as others see it, answers on no port of the service."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing; tells which address would be used
            outside = probe.getsockname()[0]
    except OSError:
        pytest.skip("this machine has no address but loopback")
    if outside in LOOPBACK:
        pytest.skip("this machine has no address but loopback")
    for _, port in listening(processes_of(service)):
        with socket.socket() as probe:
            probe.settimeout(2)
            assert probe.connect_ex((outside, port)) != 0, port


@pytest.mark.parametrize("token", ["", "PLANTED-AND-WRONG"])
def test_no_http_port_of_ray_does_anything_without_the_token(service: LocalService, token: str) -> None:
    """Dashboard, job API, and the agents of every node; the gRPC ports do not speak HTTP/1.

    Each node also shows its figures for Prometheus, on loopback, to all who ask: CPU, memory, counts of tasks.
    """
    ports = {
        port
        for (_, port), title in listening(processes_of(service)).items()
        if "ray" in title and "radosgw" not in title
    }
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    asked = [
        ("POST", "/api/jobs/"),
        ("GET", "/api/jobs/"),
        ("GET", "/api/v0/nodes"),
        ("GET", "/api/v0/tasks"),
        ("GET", "/nodes?view=summary"),
        ("POST", "/api/job_agent/jobs/"),
        ("GET", "/api/cluster_status"),
        ("POST", "/get_or_create_runtime_env"),
        ("GET", "/api/v0/logs"),
        ("GET", "/api/serve/applications/"),
        ("GET", "/worker/traceback?pid=1"),
        ("GET", "/logical/kill_actor?actor_id=1"),
        ("GET", "/events"),
    ]
    refused: dict[tuple[int, str], int] = {}
    figures: set[int] = set()
    for port in ports:
        for method, path in asked:
            try:
                answer = httpx.request(
                    method,
                    f"http://127.0.0.1:{port}{path}",
                    json={"entrypoint": "id"},
                    timeout=30,
                    headers=headers,
                    trust_env=False,
                )
            except httpx.HTTPError:
                continue  # gRPC
            if answer.text.startswith("# HELP"):  # a node's figures for Prometheus, whatever is asked
                figures.add(port)
                continue
            assert answer.status_code in (401, 403, 404, 405), (port, method, path, answer.text)
            if answer.status_code in (401, 403):
                refused[port, path] = answer.status_code
    dashboard = json.loads((service.state / "ports.json").read_text())["ray-dashboard"]
    assert {(dashboard, path) for path in ("/api/jobs/", "/api/v0/nodes", "/api/v0/tasks")} <= set(refused)
    assert len({port for port, _ in refused}) >= 4  # the dashboard and an agent on each node
    assert not figures & {port for port, _ in refused}


# The store


@pytest.fixture
def s3(service: LocalService) -> dict[str, str]:
    if not (service.state / "s3").exists():
        pytest.skip("radosgw is not installed")
    return service.environment


@pytest.mark.parametrize(
    "settings",
    [
        {"AWS_SECRET_ACCESS_KEY": "PLANTED-AND-WRONG"},
        {"AWS_ACCESS_KEY_ID": "PLANTED", "AWS_SECRET_ACCESS_KEY": "PLANTED-AND-WRONG"},
    ],
    ids=["wrong secret", "unknown key"],
)
@pytest.mark.parametrize("command", [("status",), ("run", "smoke", "--seeds", "0")], ids=["status", "run"])
def test_the_store_refuses_wrong_keys(
    service: LocalService, s3: dict[str, str], settings: dict[str, str], command: tuple[str, ...]
) -> None:
    process = service.lth(*command, **settings)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "error:" in output.splitlines()[-1] and "PLANTED" not in output
    assert s3["AWS_SECRET_ACCESS_KEY"] not in output


def test_the_store_tells_nobody_who_does_not_sign(s3: dict[str, str]) -> None:
    bucket = s3["AWS_ENDPOINT_URL"] + "/lth"
    for method, url in (("GET", bucket), ("PUT", f"{bucket}/planted"), ("DELETE", bucket)):
        assert httpx.request(method, url, trust_env=False).status_code == 403


# Secrets


def texts_of_the_api(service: LocalService) -> Iterator[tuple[str, str]]:
    """Everything that Prefect's API tells about runs: parameters, logs, artifacts, events, deployments, settings."""
    for kind in (
        "flow_runs",
        "task_runs",
        "logs",
        "artifacts",
        "deployments",
        "events",
        "variables",
        "block_documents",
        "work_pools",
        "automations",
        "flows",
    ):
        offset = 0
        while True:
            question = {} if kind == "events" else {"limit": 200, "offset": offset}
            answer = service.api("POST", f"/{kind}/filter", question)
            assert answer.status_code == 200, answer.text
            rows = answer.json()
            yield kind, answer.text
            if kind == "events" or len(rows) < 200:
                break
            offset += 200
    yield "settings", service.api("GET", "/admin/settings").text
    yield "dashboard", json.dumps(service.ray_tasks()) + json.dumps(service.ray_api("/api/v0/jobs"))


def files_of(service: LocalService) -> Iterator[Path]:
    """Every file of the state folder that is not there to hold secrets, nor data of PostgreSQL's or the S3 server's."""
    for top in ("logs", "ray", "run", "prefect", "store", "s3/log"):
        for folder, _, names in os.walk(service.state / top):
            for path in (Path(folder, name) for name in names):
                if path.is_file():
                    yield path


def test_no_secret_is_in_any_log_table_artifact_parameter_or_command_line(
    service: LocalService, tmp_path: Path
) -> None:
    """After a sweep from the form, one that fails, one whose store refuses, and one whose cluster is not there."""
    deployment = service.api("GET", "/deployments/name/sweep/sweep").json()["id"]

    def run(parameters: dict[str, Any]) -> str:
        answer = service.api(
            "POST",
            f"/deployments/{deployment}/create_flow_run",
            {"parameters": parameters, "state": {"type": "SCHEDULED"}},
        )
        assert answer.status_code == 201, answer.text
        identity = answer.json()["id"]
        return str(
            until(
                lambda: (
                    (state := service.api("GET", f"/flow_runs/{identity}").json()["state_type"])
                    in ("COMPLETED", "FAILED", "CRASHED")
                    and state
                ),
                "the end of the run",
                600,
            )
        )

    assert run({"preset": "smoke", "seeds": "0", "advanced": {"settings": ["name=secrets"]}}) == "COMPLETED"
    assert run({"preset": "smoke", "seeds": "0", "advanced": {"settings": ["training.batch_size=5000"]}}) == "FAILED"
    assert run({"preset": "smoke", "seeds": "0", "advanced": {"store": "s3://no-such-bucket/x"}}) == "FAILED"
    outputs = []
    for settings in (
        {"RAY_ADDRESS": "127.0.0.1:1"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
        {"PREFECT_API_URL": "http://user:PLANTED@127.0.0.1:1/api"},
    ):
        store = [] if "AWS_ENDPOINT_URL" in settings else ["--store", str(tmp_path / "store")]
        process = service.lth("run", "smoke", "--seeds", "0", *store, LTH_TRACEBACK="", **settings)
        outputs.append(process.communicate(timeout=400)[0])
        assert process.returncode != 0 or "AWS_ENDPOINT_URL" in settings, outputs[-1]

    secrets = {**service.secrets(), "planted": "PLANTED"}
    places = {**{str(number): output for number, output in enumerate(outputs)}}
    for process in processes_of(service):
        places[f"command line of {process.pid}"] = " ".join(process.cmdline())
    found = [
        (name, place)
        for place, text in [*places.items(), *texts_of_the_api(service)]
        for name, value in secrets.items()
        if value in text
    ]
    checked = 0
    for path in files_of(service):
        content = path.read_bytes()
        checked += 1
        found += [(name, str(path)) for name, value in secrets.items() if value.encode() in content]
    assert not found
    assert checked > 20


def test_no_secret_is_in_the_store(service: LocalService, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    for name, value in service.environment.items():
        if name.startswith(("AWS_", "LTH_STORE")):
            monkeypatch.setenv(name, value)
    service.run("run", "smoke", "--seeds", "0", "--set", "name=objects", "--levels", "1")
    system, root = fsspec.core.url_to_fs(os.environ["LTH_STORE"])
    system.invalidate_cache()
    objects = system.find(root)
    assert len(objects) > 10
    for key in objects:
        content = system.cat_file(key)
        for name, value in service.secrets().items():
            assert value.encode() not in content, (name, key)


def test_a_store_with_keys_in_its_url_is_refused_before_it_is_written_down(service: LocalService) -> None:
    deployment = service.api("GET", "/deployments/name/sweep/sweep").json()["id"]
    answer = service.api(
        "POST",
        f"/deployments/{deployment}/create_flow_run",
        {"parameters": {"preset": "smoke", "advanced": {"store": "s3://key:PLANTED-SECRET@bucket/x"}}},
    )
    assert answer.status_code in (409, 422)
    runs = service.api("POST", "/flow_runs/filter", {"limit": 200}).text
    assert "PLANTED-SECRET" not in runs
    assert "PLANTED-SECRET" not in (service.state / "logs" / "prefect-server.log").read_text()
