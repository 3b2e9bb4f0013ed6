"""Processes that die or stop in the middle of training: nothing is lost or there twice, the tables are the same.

What a fault costs is counted by Ray and by the tables: seconds in which trainings ran, less those that committed
trainings took. It is never more than what one unit takes.
"""

from __future__ import annotations

import contextlib
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from local_service import LocalService, until
from stored_tables import tables_of

from lth.data import load_dataset
from lth.experiment import Experiment, load_experiment
from lth.store import Store
from lth.sweep.here import run_here

pytestmark = [pytest.mark.services, pytest.mark.timeout(1500)]

SETTINGS = [
    "name=faults",
    "training.duration=24000it",
    "training.evaluate_every=2000it",
    "arms=[ticket]",
    "pruning.levels=1",
]
SEEDS = (0, 1, 2, 3)
UNITS = 2 * len(SEEDS)  # two levels, each seed a unit of its own
SLOTS = 2


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return load_experiment("smoke", SETTINGS)


@pytest.fixture(scope="module")
def undisturbed(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tables of the same experiment without Prefect, Ray, or faults."""
    store = Store(tmp_path_factory.mktemp("undisturbed"))
    run_here(experiment, SEEDS, store, load_dataset("digits"))
    return tables_of(store, experiment)


@dataclass
class Sweep:
    """One sweep into a store of its own."""

    service: LocalService
    store: Path
    begun_at: float
    """Seconds since 1970."""

    @property
    def command(self) -> list[str]:
        settings = [word for setting in SETTINGS for word in ("--set", setting)]
        return ["run", "smoke", "--seeds", "0-3", "--cohort-size", "1", "--store", str(self.store), *settings]

    def from_the_command_line(self, **settings: str) -> subprocess.Popen[str]:
        return self.service.lth(*self.command, **settings)

    def from_the_deployment(self, seeds: str = "0-3") -> str:
        """Started as from the UI; the id of the run."""
        deployment = self.service.api("GET", "/deployments/name/sweep/sweep").json()["id"]
        parameters = {
            "preset": "smoke",
            "seeds": seeds,
            "advanced": {"settings": SETTINGS, "store": str(self.store), "cohort_size": 1},
        }
        answer = self.service.api(
            "POST",
            f"/deployments/{deployment}/create_flow_run",
            {"parameters": parameters, "state": {"type": "SCHEDULED"}},
        )
        answer.raise_for_status()
        return str(answer.json()["id"])

    def resume(self, run: str) -> None:
        """Gives the one command that the run's log names."""
        logs = self.service.api("POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}).json()
        [line] = [log["message"] for log in logs if "the same from the command line: " in log["message"]]
        words = shlex.split(line.partition("the same from the command line: ")[2])
        assert words[0] == "lth"
        self.finish(self.service.lth(*words[1:]))

    def trainings(self) -> list[dict[str, Any]]:
        """What Ray knows of the trainings begun so far, on all nodes; it learns of them within a second or two."""
        return [
            task
            for task in self.service.ray_tasks()
            if task["name"].startswith("train")
            and task["start_time_ms"] is not None
            and task["start_time_ms"] > 1000 * self.begun_at
        ]

    def lost(self, experiment: Experiment) -> float:
        """Work that trainings did in vain, in units; included is what a task of Ray needs to begin and end, and the
        import of torch in a new worker, of some seconds."""
        time.sleep(2)
        rows = Store(self.store).committed(experiment.id).rows
        needed = rows["train_seconds"].to_pylist()
        begun = self.trainings()
        took = sum(task["end_time_ms"] - task["start_time_ms"] for task in begun) / 1000
        lost = took - sum(needed)
        print(
            f"{len(begun)} trainings begun, {took:.1f} s; committed ones took {sum(needed):.1f} s, "
            f"the longest {max(needed):.1f} s: {lost / max(needed):.2f} units lost"
        )
        return float(lost / max(needed))

    def wait_for_training(self) -> list[psutil.Process]:
        """Ray's workers that train, once one has been at it for a second."""

        def both() -> list[psutil.Process]:
            found = training(self.service)
            time.sleep(1)
            return [process for process in training(self.service) if process in found]

        return list(until(both, "a training"))

    def finish(self, process: subprocess.Popen[str]) -> str:
        """What a command that succeeds prints."""
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        return output


@pytest.fixture
def sweep(service: LocalService, tmp_path: Path) -> Iterator[Sweep]:
    service.up()
    until(lambda: not training(service), "the end of earlier trainings")
    yield Sweep(service, tmp_path / "store", time.time())
    service.up()


def training(service: LocalService) -> list[psutil.Process]:
    """Workers of the service's own nodes that train at this moment."""
    found = []
    for name in ("ray-node-1", "ray-node-2"):
        with contextlib.suppress(psutil.Error):
            for process in service.process(name).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if " ".join(process.cmdline()).startswith("ray::train"):
                        found.append(process)
    return found


def flows_of(service: LocalService, run: str) -> list[psutil.Process]:
    """The processes of a run that the Prefect worker started."""
    found = [
        process
        for process in service.process("prefect-worker").children(recursive=True)
        if run in process.environ().get("PREFECT__FLOW_RUN_ID", "")
    ]
    assert found
    return found


def state_of(service: LocalService, run: str) -> Any:
    return service.api("GET", f"/flow_runs/{run}").json()["state_type"]


def test_a_ray_worker_is_killed(sweep: Sweep, experiment: Experiment, undisturbed: dict[str, str]) -> None:
    process = sweep.from_the_command_line()
    sweep.wait_for_training()[0].kill()
    sweep.finish(process)
    assert tables_of(Store(sweep.store), experiment) == undisturbed
    assert sweep.lost(experiment) <= 1
    assert len(sweep.trainings()) == UNITS + 1


def test_a_ray_node_is_killed(sweep: Sweep, experiment: Experiment, undisturbed: dict[str, str]) -> None:
    """The other node does its work; no command is needed."""
    process = sweep.from_the_command_line()
    sweep.wait_for_training()
    node = sweep.service.process("ray-node-1")
    for member in [node, *node.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    sweep.finish(process)
    assert tables_of(Store(sweep.store), experiment) == undisturbed
    assert sweep.lost(experiment) <= 1
    assert len(sweep.trainings()) <= UNITS + 1


def test_the_prefect_worker_is_killed(sweep: Sweep, experiment: Experiment, undisturbed: dict[str, str]) -> None:
    """The flow's process goes on without it."""
    run = sweep.from_the_deployment()
    sweep.wait_for_training()
    sweep.service.process("prefect-worker").kill()
    sweep.service.up()
    until(lambda: state_of(sweep.service, run) not in ("RUNNING", "PENDING"), "the end of the run", 600)
    assert state_of(sweep.service, run) == "COMPLETED"
    assert tables_of(Store(sweep.store), experiment) == undisturbed
    assert len(sweep.trainings()) == UNITS and sweep.lost(experiment) <= 1


def test_the_flows_process_is_killed(sweep: Sweep, experiment: Experiment, undisturbed: dict[str, str]) -> None:
    """The run is marked as crashed; the command from its log resumes it."""
    run = sweep.from_the_deployment()
    lost = len(sweep.wait_for_training())
    for flow in flows_of(sweep.service, run):
        flow.kill()
    until(lambda: state_of(sweep.service, run) == "CRASHED", "the mark of the crash")
    until(lambda: not training(sweep.service), "the end of its trainings")
    kept = len(Store(sweep.store).committed(experiment.id).where)
    assert kept < UNITS and lost <= SLOTS
    sweep.resume(run)
    assert tables_of(Store(sweep.store), experiment) == undisturbed
    assert sweep.lost(experiment) <= 1
    assert len(sweep.trainings()) <= UNITS + SLOTS  # the one that each slot was at goes on


def test_a_run_is_cancelled(sweep: Sweep, experiment: Experiment, undisturbed: dict[str, str]) -> None:
    """As by the UI's button. Its work on a cluster that lives on stops within ten seconds; the same again resumes."""
    run = sweep.from_the_deployment()
    sweep.wait_for_training()
    sweep.service.api(
        "POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    ).raise_for_status()
    until(lambda: not training(sweep.service), "the end of its trainings", 10)
    until(lambda: state_of(sweep.service, run) == "CANCELLED", "the mark of the cancellation")
    assert len(Store(sweep.store).committed(experiment.id).where) < UNITS
    sweep.resume(run)
    assert tables_of(Store(sweep.store), experiment) == undisturbed
    assert sweep.lost(experiment) <= 1


def test_the_machine_of_the_flow_vanishes(sweep: Sweep, experiment: Experiment, tmp_path: Path) -> None:
    """Flow and Prefect worker at once: nobody is left to say so, but the automation; one command resumes."""
    [automation] = sweep.service.api("POST", "/automations/filter", {}).json()
    sooner = {**{name: automation[name] for name in ("name", "description", "enabled", "trigger", "actions")}}
    sooner["trigger"] = {**automation["trigger"], "within": 40}  # Prefect sends no sign of life more often than in 30 s
    sweep.service.api("PUT", f"/automations/{automation['id']}", sooner).raise_for_status()
    try:
        run = sweep.from_the_deployment("0-11")
        alive = {
            "filter": {
                "event": {"name": ["prefect.flow-run.heartbeat"]},
                "resource": {"id": [f"prefect.flow-run.{run}"]},
            }
        }
        until(lambda: sweep.service.api("POST", "/events/filter", alive).json()["total"], "a sign of life")
        sweep.wait_for_training()
        for process in [sweep.service.process("prefect-worker"), *flows_of(sweep.service, run)]:
            process.kill()
        assert state_of(sweep.service, run) == "RUNNING"
        until(lambda: state_of(sweep.service, run) == "CRASHED", "the automation's mark")
        assert "No sign of life" in sweep.service.api("GET", f"/flow_runs/{run}").json()["state"]["message"]
    finally:
        sooner["trigger"] = automation["trigger"]
        sweep.service.api("PUT", f"/automations/{automation['id']}", sooner).raise_for_status()
    assert len(Store(sweep.store).committed(experiment.id).where) < 24
    sweep.resume(run)
    alone = Store(tmp_path / "alone")
    run_here(experiment, tuple(range(12)), alone, load_dataset("digits"))
    assert tables_of(Store(sweep.store), experiment) == tables_of(alone, experiment)
    assert sweep.lost(experiment) <= 1


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_the_prefect_server_is_away_for_thirty_seconds(
    sweep: Sweep, experiment: Experiment, undisturbed: dict[str, str], how: str
) -> None:
    process = sweep.from_the_command_line()
    sweep.wait_for_training()
    server = sweep.service.process("prefect-server")
    servers = [server, *server.children(recursive=True)]
    for member in servers:
        member.send_signal(signal.SIGSTOP if how == "stopped" else signal.SIGKILL)
    time.sleep(30)
    if how == "stopped":
        for member in servers:
            member.send_signal(signal.SIGCONT)
    else:
        assert "prefect-server: started" in sweep.service.up()
    sweep.finish(process)
    assert tables_of(Store(sweep.store), experiment) == undisturbed
    assert len(sweep.trainings()) == UNITS and sweep.lost(experiment) <= 1
    runs = sweep.service.api(
        "POST",
        "/flow_runs/filter",
        {"flow_runs": {"name": {"like_": "faults-"}}, "sort": "START_TIME_DESC", "limit": 1},
    ).json()
    assert [run["state_type"] for run in runs] == ["COMPLETED"]


def test_the_same_sweep_is_started_twice_at_once(
    sweep: Sweep, experiment: Experiment, undisturbed: dict[str, str]
) -> None:
    """Both complete, and share the work: what one is at the other leaves to it."""
    both = [sweep.from_the_command_line() for _ in range(2)]
    for process in both:
        sweep.finish(process)
    assert tables_of(Store(sweep.store), experiment) == undisturbed
    assert sweep.lost(experiment) <= 1
    assert len(sweep.trainings()) == UNITS


def test_a_sweep_that_hangs_loses_its_units_to_another(
    sweep: Sweep, experiment: Experiment, undisturbed: dict[str, str]
) -> None:
    """Its flow is stopped in the middle of training; another, with a Ray of its own since a stopped driver keeps Ray's
    workers, does everything; it wakes up and finds it done."""
    hanging = sweep.from_the_command_line()
    sweep.wait_for_training()
    flow = psutil.Process(hanging.pid)
    flow.suspend()
    try:
        output = sweep.finish(sweep.from_the_command_line(RAY_ADDRESS="local"))
        assert f"process {flow.pid} on " in output
        assert tables_of(Store(sweep.store), experiment) == undisturbed
    finally:
        flow.resume()
    sweep.finish(hanging)
    assert tables_of(Store(sweep.store), experiment) == undisturbed
    assert not Store(sweep.store).objects.sizes("claims")
