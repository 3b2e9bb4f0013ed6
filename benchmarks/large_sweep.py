"""A large sweep on a real Prefect server: seeds a minute, how many task runs it takes, and whether all are on record.

Starts a Prefect server on SQLite as a process of its own and runs `digits` (ticket only) against it. `recorded` is the
fraction of the task runs that the server has recorded as Completed, `mib_per_1000_trainings` the slope of a straight
line through the resident memory of the flow's process, second half of the sweep.

Run: python benchmarks/large_sweep.py [--seeds 1000 --levels 10]. Prints a table and, as its last line, a JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time

os.environ.update(
    {
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
)
MIB = 2**20


def start_server(folder: str) -> subprocess.Popen[bytes]:
    """A server on a free port, answering; PREFECT_API_URL names it from now on."""
    import httpx

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update({"PREFECT_HOME": folder, "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"})
    server = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(240):
        time.sleep(0.5)
        try:
            if httpx.get(f"{os.environ['PREFECT_API_URL']}/health").is_success:
                return server
        except httpx.HTTPError:
            continue
    raise SystemExit("the Prefect server did not start")


def count_task_runs(state: str | None) -> int:
    """Task runs that the server knows, all of them or those in that state."""
    import httpx

    body = {"task_runs": {"state": {"type": {"any_": [state]}}}} if state else {}
    return int(httpx.post(f"{os.environ['PREFECT_API_URL']}/task_runs/count", json=body).json())


def main() -> None:
    """Run the sweep, print the samples and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--levels", type=int, default=10)
    parser.add_argument("--cohort-size", type=int, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = start_server(f"{folder}/prefect")
        try:
            measure(options, f"{folder}/store")
        finally:
            server.terminate()
            server.wait(30)


def measure(options: argparse.Namespace, store: str) -> None:
    """The sweep against the server of PREFECT_API_URL."""
    import numpy as np
    import psutil

    from flows.sweep import sweep
    from lth.experiment import Execution, load_experiment
    from lth.sweep.progress import LISTENER, Event, Planned, UnitChanged
    from lth.sweep.record import code_version

    experiment = load_experiment("digits", [f"pruning.levels={options.levels}", "arms=[ticket]"])
    process, planned = psutil.Process(), 0
    samples: list[tuple[int, float]] = []

    def sample(event: Event) -> None:
        nonlocal planned
        if isinstance(event, Planned):
            planned = event.units
        if isinstance(event, UnitChanged) and event.what == "committed":
            done = samples[-1][0] if samples else 0
            samples.append((done + len(event.unit.seeds), process.memory_info().rss / MIB))

    LISTENER.set(sample)
    outcome = sweep(experiment, f"0-{options.seeds - 1}", store, Execution(cohort_size=options.cohort_size))
    for _ in range(120):  # the server records with a delay
        if count_task_runs(None) == count_task_runs("COMPLETED") >= len(samples):
            break
        time.sleep(1)
    issued = 1 + sum(3 if number < planned / (options.levels + 1) else 4 for number in range(len(samples)))
    known, completed = count_task_runs(None), count_task_runs("COMPLETED")
    working = outcome["seconds"]["wall"] - outcome["seconds"]["start"]
    print(
        f"{options.seeds:,} seeds x {options.levels} levels: {outcome['committed']:,} trainings in {working:.0f} s "
        f"after the start, {outcome['slots']} units at a time"
    )
    print(f"{'trainings':>12}{'flow MiB':>12}")
    for at in np.linspace(0, len(samples) - 1, 9).astype(int):
        print(f"{samples[at][0]:12,d}{samples[at][1]:12.1f}")
    second = np.array(samples[len(samples) // 2 :])
    slope = float(np.polyfit(second[:, 0], second[:, 1], 1)[0]) * 1000 if len(second) > 1 else float("nan")
    print(
        json.dumps(
            {
                "benchmark": "large_sweep",
                "seeds_a_minute": round(60 * options.seeds / working, 1),
                "task_runs": known,
                "issued": issued,
                "recorded": round(completed / issued, 4),
                "mib_per_1000_trainings": round(slope, 2),
                "flow_mib_first_last": [round(samples[0][1], 1), round(samples[-1][1], 1)],
                "n": outcome["committed"],
                "device": f"cpu ({platform.machine()})",
                "code_version": code_version(),
            }
        )
    )


if __name__ == "__main__":
    main()
