"""A person at Prefect's UI: fills in the form by clicks, watches the run, opens its artifacts, cancels a run."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser import picture

from lth.experiment import load_experiment
from lth.store import Store
from lth.store.curated import Curated

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]


@dataclass
class Served:
    """A Prefect server with a worker: its address, and the store and log of the worker."""

    ui: str
    store: Path
    worker_log: Path

    def get(self, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = httpx.get(f"{self.ui}/api/{path}") if body is None else httpx.post(f"{self.ui}/api/{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    def deployment(self, name: str) -> dict[str, Any]:
        return dict(self.get(f"deployments/name/sweep/{name}"))

    def newest_run(self) -> dict[str, Any]:
        return dict(self.get("flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC", "limit": 1})[0])

    def until(self, run: str, *states: str, seconds: float = 300) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = dict(self.get(f"flow_runs/{run}"))
            if found["state_name"] in states:
                return found
            time.sleep(0.2)
        raise AssertionError(f"the run is {found['state_name']}, not {states}:\n{self.worker_log.read_text()[-3000:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Server, pool, deployments and worker, as a person would start them; ended by process."""
    folder = tmp_path_factory.mktemp("served")
    ui = f"http://127.0.0.1:{free_port()}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "RAY_", "LTH_"))},
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": f"{ui}/api",
        "PREFECT_SERVER_UI_API_URL": f"{ui}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "LTH_STORE": str(folder / "store"),
    }
    prefect = [sys.executable, "-m", "prefect"]
    logs = {name: (folder / f"{name}.log").open("w") for name in ("server", "worker")}

    def start(name: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*prefect, *arguments],
            env=environment,
            cwd=ROOT,
            stdout=logs[name],
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    started = [start("server", "server", "start", "--host", "127.0.0.1", "--port", ui.rpartition(":")[2])]
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                if httpx.get(f"{ui}/api/health").is_success:
                    break
            except httpx.HTTPError:
                pass
            assert time.monotonic() < deadline and started[0].poll() is None, "the server did not start"
            time.sleep(0.5)
        for command in (["work-pool", "create", "default", "--type", "process"], ["deploy", "--all"]):
            done = subprocess.run(
                [*prefect, "--no-prompt", *command], env=environment, cwd=ROOT, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
        started.append(start("worker", "worker", "start", "--pool", "default"))
        yield Served(ui, folder / "store", folder / "worker.log")
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in reversed(started):
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def field(page: Any, label: str) -> Any:
    """The field of the form under that label."""
    return (
        page.locator(".schema-form-property")
        .filter(
            has=page.locator(
                ".schema-form-property__label", has_text=re.compile(f"^{re.escape(label)}( \\(Optional\\))?$")
            )
        )
        .last
    )


def choose(page: Any, label: str, option: str) -> None:
    """Pick an entry of a menu by clicks."""
    field(page, label).locator(".p-select-button__icon").last.click()
    page.locator(".p-select-option").filter(has_text=re.compile(f"^\\s*{re.escape(option)}\\s*$")).first.click()
    page.get_by_text("Parameters", exact=True).first.click()  # elsewhere: closes a menu of several choices


def fill(page: Any, label: str, text: str) -> None:
    field(page, label).locator("textarea, input").last.fill(text)


def open_form(page: Any, served: Served, deployment: str = "sweep") -> None:
    page.goto(f"{served.ui}/deployments/deployment/{served.deployment(deployment)['id']}")
    page.get_by_role("button", name="Run", exact=True).first.click()
    page.get_by_text("Custom run").first.click()
    page.get_by_text("Pruning levels (Optional)").wait_for()


def open_artifacts(page: Any, address: str) -> None:
    """The list of a run's artifacts."""
    page.goto(address)
    page.get_by_role("tab", name="Artifacts").or_(page.get_by_text("Artifacts", exact=True)).first.click()
    page.get_by_text("test accuracy at early stop, by level and arm.").first.wait_for()


def open_artifact(page: Any, address: str, experiment_id: str, name: str) -> None:
    """From that list, by a click."""
    open_artifacts(page, address)
    page.get_by_role("link", name=re.compile(f"{re.escape(experiment_id)}-{name}")).first.click()
    page.wait_for_url("**/artifacts/**")


def test_a_sweep_from_the_form_to_its_artifacts(page: Any, served: Served) -> None:
    open_form(page, served)
    choose(page, "preset", "digits")
    fill(page, "seeds", "0-3")
    fill(page, "Pruning levels", "3")
    choose(page, "Controls", "random_mask")
    fill(page, "Fraction pruned per level", "0.5")
    picture(page, "prefect-form", height=1060)
    picture(page, "prefect-form-whole", height=3900)
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/deployments/deployment/*?tab=Runs")
    run = served.until(served.newest_run()["id"], "Completed", "Failed", "Crashed")
    assert run["state_name"] == "Completed", run["state"]["message"]
    assert run["parameters"]["changes"] == {"controls": ["random_mask"], "levels": 3, "fraction": 0.5}
    assert run["name"] == "digits · seeds 0-3"
    assert {"lth", "sweep", "dataset:digits", "model:mlp", "arm:ticket", "arm:random_mask"} <= set(run["tags"])
    experiment = load_experiment("digits", ["pruning.levels=3", "arms=[ticket, random_mask]", "pruning.fraction=0.5"])
    assert Store(str(served.store)).committed(experiment.id).rows.num_rows == 4 * (4 + 3)

    address = f"{served.ui}/runs/flow-run/{run['id']}"
    page.goto(address)
    page.get_by_text("level 3 · random_mask").first.wait_for()  # the log
    picture(page, "prefect-run", height=1500)
    open_artifacts(page, address)
    picture(page, "prefect-artifacts")
    found = {
        artifact["key"].removeprefix(f"{experiment.id}-"): artifact
        for artifact in served.get("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    }
    assert {"progress", "results", "accuracy", "early-stop", "report"} <= set(found)
    assert found["progress"]["data"] == 100
    open_artifact(page, address, experiment.id, "results")
    page.get_by_role("cell", name="100%").first.wait_for()
    picture(page, "prefect-results")
    for name in ("early-stop", "accuracy"):
        open_artifact(page, address, experiment.id, name)
        image = page.locator(f"img[alt={name}]")
        image.wait_for()
        assert image.evaluate("image => image.complete && image.naturalWidth") > 300
    picture(page, "prefect-figure")
    open_artifact(page, address, experiment.id, "report")
    page.get_by_text("the whole report").first.wait_for()


def test_the_log_is_a_story(served: Served) -> None:
    created = httpx.post(
        f"{served.ui}/api/deployments/{served.deployment('sweep')['id']}/create_flow_run",
        json={"parameters": {"preset": "smoke", "seeds": "0-1", "changes": {"name": "story", "levels": 1}}},
    ).json()
    run = served.until(created["id"], "Completed", "Failed", "Crashed")
    lines = [
        line["message"]
        for line in served.get(
            "logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        )
    ]
    ours = [line for line in lines if line.startswith("level ")]
    assert [line.split(":")[0] for line in ours][:2] == ["level 0 · dense", "level 1 · ticket"]
    assert re.fullmatch(r"level 1 · ticket: [\d.]+% of the weights, test accuracy [\d.]+ ± [\d.]+% \(n = 2\)", ours[1])
    assert not [line for line in lines if "Finished in state" in line and "Task run" in line]
    assert not [line for line in lines if "step" in line], "of deployments"
    assert len(lines) - len(ours) <= 8, lines


def test_results_are_compacted_and_reported_by_deployments(served: Served) -> None:
    store = Store(str(served.store))
    experiment_id = store.experiments()[0]

    def run(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        found = served.get(f"deployments/name/{name}/{name}")
        created = httpx.post(
            f"{served.ui}/api/deployments/{found['id']}/create_flow_run", json={"parameters": parameters}
        ).json()
        return served.until(created["id"], "Completed", "Failed", "Crashed")

    compacted = run("compact", {})
    assert compacted["state_name"] == "Completed", compacted["state"]["message"]
    assert Curated(store).read("levels").num_rows == sum(
        store.committed(one).rows.num_rows for one in store.experiments()
    )
    reported = run("report", {"experiment": experiment_id})
    assert reported["state"]["message"] == f"{store.committed(experiment_id).rows.num_rows} trainings reported"
    unknown = run("report", {"experiment": "digits-0123456789"})
    assert unknown["state_name"] == "Failed" and experiment_id in unknown["state"]["message"]


def test_what_the_form_cannot_know_fails_with_one_line_and_no_trace(served: Served) -> None:
    settings = ["rewinding={kind: step, step: 10it}"]
    created = httpx.post(
        f"{served.ui}/api/deployments/{served.deployment('sweep')['id']}/create_flow_run",
        json={
            "parameters": {
                "preset": "smoke",
                "changes": {"when": "at_initialisation"},
                "advanced": {"settings": settings},
            }
        },
    ).json()
    run = served.until(created["id"], "Completed", "Failed", "Crashed")
    assert run["state_name"] == "Failed"
    assert "leaves nothing to rewind to but the initial weights" in run["state"]["message"]
    logs = served.get("logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "limit": 200})
    assert not [line["message"] for line in logs if "Traceback" in line["message"]]


def test_bad_parameters_are_refused_at_submission(served: Served) -> None:
    address = f"{served.ui}/api/deployments/{served.deployment('sweep')['id']}/create_flow_run"
    for parameters in ({"preset": "lenet"}, {"seeds": "all"}, {"changes": {"levels": -1}}):
        answer = httpx.post(address, json={"parameters": parameters})
        assert answer.status_code == 409, answer.text


def test_a_run_cancelled_in_the_ui_stops_its_work_within_ten_seconds(page: Any, served: Served) -> None:
    created = httpx.post(
        f"{served.ui}/api/deployments/{served.deployment('sweep')['id']}/create_flow_run",
        json={"parameters": {"preset": "smoke", "seeds": "0", "changes": {"name": "long", "duration": "90000000it"}}},
    ).json()
    served.until(created["id"], "Running")
    deadline = time.monotonic() + 240
    while not _training(served):
        assert time.monotonic() < deadline, served.worker_log.read_text()[-3000:]
        time.sleep(0.5)
    page.goto(f"{served.ui}/runs/flow-run/{created['id']}")
    page.get_by_role("button", name="Cancel").first.click()
    page.get_by_role("button", name="Confirm").click()
    asked = time.monotonic()
    while _training(served):
        assert time.monotonic() - asked < 10, "Ray still works on a cancelled run"
        time.sleep(0.1)
    assert served.until(created["id"], "Cancelled", seconds=60)["state_type"] == "CANCELLED"


def _training(served: Served) -> list[int]:
    """Ray workers that train for the runs of this server, by what the system says of its processes."""
    import psutil

    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            command = " ".join(process.info["cmdline"] or [])
            if "ray::train" in command and process.environ().get("LTH_STORE") == str(served.store):
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
