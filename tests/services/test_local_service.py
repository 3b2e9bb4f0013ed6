"""`infra/local-up` and `local-down`: everything on one machine, a sweep over two Ray nodes, and nothing left behind."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from local_service import LocalService, family, local, new_state, until
from stored_tables import tables_of

from lth.data import load_dataset
from lth.experiment import load_experiment
from lth.store import Store
from lth.sweep.here import run_here

pytestmark = [pytest.mark.services, pytest.mark.timeout(1800)]
PARTS = ("postgres", "prefect-server", "ray-head", "ray-node-1", "ray-node-2", "prefect-worker")


def test_a_second_local_up_starts_nothing(service: LocalService) -> None:
    before = {name: service.process(name).pid for name in PARTS}
    printed = service.up()
    assert all(f"{name}: runs already" in printed for name in PARTS) and "started" not in printed
    assert {name: service.process(name).pid for name in PARTS} == before


def test_it_says_how_to_use_it_and_no_secret(service: LocalService) -> None:
    assert (
        f"source {service.state}/env" in service.printed
        and service.environment["PREFECT_API_URL"][:-4] in service.printed
    )
    for value in service.secrets().values():
        assert value not in service.printed
    for path in (service.state / "env", *(service.state / "secrets").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_part_that_is_gone_is_started_again_alone(service: LocalService) -> None:
    before = {name: service.process(name).pid for name in PARTS}
    worker = service.process("prefect-worker")
    worker.kill()
    until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, "the end of the worker")
    printed = service.up()
    assert "prefect-worker: started" in printed and printed.count(": started") == 1
    after = {name: service.process(name).pid for name in PARTS}
    assert [name for name in PARTS if after[name] != before[name]] == ["prefect-worker"]


def test_a_sweep_runs_on_both_nodes_and_is_recorded(
    service: LocalService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = ["name=spread", "training.duration=1500it", "training.evaluate_every=500it"]
    arguments = [word for setting in settings for word in ("--set", setting)]
    earlier = {task["task_id"] for task in service.ray_tasks()}  # of other tests: the service is the session's
    output = service.run("run", "smoke", "--seeds", "0-3", "--levels", "1", "--cohort-size", "1", *arguments)
    experiment = load_experiment("smoke", [*settings, "pruning.levels=1"])
    assert f"{experiment.id}" in output

    names = {row["node_id"]: row["node_name"] for row in service.ray_api("/api/v0/nodes")}
    trained = [
        task for task in service.ray_tasks() if task["name"].startswith("train") and task["task_id"] not in earlier
    ]
    assert len(trained) == 4 * 4 and all(task["state"] == "FINISHED" for task in trained)
    by_node = {name: sum(names[task["node_id"]] == name for task in trained) for name in names.values()}
    assert by_node["ray-head"] == 0 and by_node["ray-node-1"] >= 4 and by_node["ray-node-2"] >= 4, by_node

    runs = service.api("POST", "/flow_runs/filter", {"flow_runs": {"name": {"like_": "spread-"}}}).json()
    assert [run["state_type"] for run in runs] == ["COMPLETED"]

    for name, value in service.environment.items():
        if name.startswith(("AWS_", "LTH_STORE")):
            monkeypatch.setenv(name, value)
    store, alone = Store(os.environ["LTH_STORE"]), Store(tmp_path)
    assert store.url.startswith("s3://") == (service.state / "s3").exists()
    run_here(experiment, (0, 1, 2, 3), alone, load_dataset("digits"))
    assert tables_of(store, experiment) == tables_of(alone, experiment)


@pytest.fixture
def state() -> Iterator[Path]:
    path = new_state()
    yield path
    if path.exists():
        local("local-down", path, "--delete")
    path.parent.rmdir()


def test_local_down_ends_all_that_was_started_and_nothing_else(state: Path, tmp_path: Path) -> None:
    """Even what was orphaned by a kill; a bystander's Ray and a process in the same folder stay."""
    code = (
        "import ray, time; ray.init(address='local', num_cpus=1, include_dashboard=False); "
        "print('up', flush=True); time.sleep(3600)"
    )
    bystander = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert bystander.stdout and bystander.stdout.readline() == "up\n"
        theirs = [psutil.Process(bystander.pid), *psutil.Process(bystander.pid).children(recursive=True)]
        assert any("raylet" in process.name() for process in theirs)
        done = local("local-up", state, "--free-ports", "--no-s3", "--nodes", "1")
        assert done.returncode == 0, done.stderr
        parts = [name for name in PARTS if name != "ray-node-2"]
        started = LocalService(state, done.stdout)
        ours = family({name: started.process(name) for name in parts})
        assert len(ours) > 12
        started.process("ray-node-1").kill()
        started.process("prefect-worker").kill()
        done = local("local-down", state)
        assert done.returncode == 0, done.stderr
        until(
            lambda: (
                not [process for process in ours if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
            ),
            "the end of all processes",
            30,
        )
        assert all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in theirs)
        assert (state / "postgres" / "PG_VERSION").exists()  # data stay until they are to be deleted
        done = local("local-down", state, "--delete")
        assert done.returncode == 0 and not state.exists()
    finally:
        bystander.terminate()
        bystander.wait(60)


def test_a_port_that_is_taken_is_named_and_nothing_stays(state: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        state.mkdir()
        (state / "lock").touch()
        (state / "ports.json").write_text(json.dumps({"prefect": port}))
        options = {"nodes": 1, "cpus": 1, "gpus": 0, "store": str(state)}
        (state / "service.json").write_text(
            json.dumps({"mark": "m" * 32, "options": options, "ray_folder": str(state / "ray")})
        )
        done = local("local-up", state, "--free-ports", "--nodes", "1", "--store", str(state))
    assert done.returncode == 1
    assert done.stderr == (
        f"local-up: port {port} for prefect is taken; end what listens there, or use a new --state with --free-ports\n"
    )
    assert not list((state / "run").iterdir())


def test_a_start_that_fails_half_way_ends_what_it_had_started(state: Path) -> None:
    done = local("local-up", state, "--free-ports", "--no-s3", "--nodes", "1", "--cpus", "100000000000000000000")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    log = done.stderr.strip().rpartition("see ")[2]
    assert "ray-node-1" in done.stderr and Path(log).exists()
    from infra.local.processes import all_processes, belongs

    mark = json.loads((state / "service.json").read_text())["mark"]
    assert not [process for process in all_processes() if belongs(process, mark, [], [])]


def test_a_folder_without_a_service_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    for command in ("local-down", "local-up"):
        done = local(command, tmp_path, *(["--delete"] if command == "local-down" else []))
        assert done.returncode == 1 and str(tmp_path) in done.stderr and done.stderr.count("\n") == 1
    assert (tmp_path / "thesis.tex").exists()
