"""What orchestration costs: a sweep of about five minutes through Prefect and Ray, and where its wall time went.

`orchestration_share` is the part of the wall time after the start of Prefect and Ray that no stage spent training,
evaluating, pruning or storing: scheduling, handing over, waiting, idle slots at the end.
`task_run_ms` is what one task run takes of the flow's processor and of the wall, with a Ray that answers at once:
medians over rounds.

Run: python benchmarks/orchestration.py [--duration 7000it] [--only-task-runs]. Prints a table and, as its last line, a
JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import tempfile
import time
from typing import Any
from uuid import uuid4

os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

from prefect import flow

from flows.sweep import sweep
from lth.data import load_dataset
from lth.experiment import Execution, load_experiment
from lth.store import Unit
from lth.sweep.handover import Job
from lth.sweep.planning import Work
from lth.sweep.record import code_version
from lth.sweep.setup import DataFacts
from lth.sweep.stages import rewind_unit
from tasks import stages
from tasks.cluster import Share

ROUNDS = 5


class Immediate:
    """A Ray, and a counter of steps, that have nothing to do."""

    actor = None

    def submit(self, *_: Any) -> tuple[Any, Any]:
        return {"storage": 0.1}, None

    def wait(self, report: Any) -> Any:
        return report


@flow(name="task runs")
def task_runs(number: int) -> tuple[list[float], list[float]]:
    """Milliseconds of the processor and of the wall that a task run takes, by round of `number` of them."""
    logging.getLogger("prefect.task_runs").setLevel(logging.WARNING)
    nothing: Any = Immediate()
    seeds = tuple(range(32))
    before = dict.fromkeys(seeds, "ticket-L04-s0-31-0123abcd")
    work = Work(Unit("reinit", 0, 5, seeds), seeds, (), before, before, before)
    job = Job(load_experiment("digits"), DataFacts.of(load_dataset("digits")), "memory://")
    processor, wall = [], []
    for _ in range(ROUNDS + 1):
        begun = time.thread_time(), time.perf_counter()
        calls = stages.UnitRuns(nothing, Share(), nothing, nothing, {}, uuid4())
        for _ in range(number):
            calls(rewind_unit, job, work, pruned=None)
        processor.append((time.thread_time() - begun[0]) / number * 1000)
        wall.append((time.perf_counter() - begun[1]) / number * 1000)
    return processor[1:], wall[1:]


def main() -> None:
    """Measure a task run, then run the sweep in a temporary store; print the split and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duration", default="7000it", help="length of every training of the digits sweep")
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--task-runs", type=int, default=100, help=f"task runs in each of {ROUNDS} rounds")
    parser.add_argument("--only-task-runs", action="store_true")
    options = parser.parse_args()
    processor, wall = (statistics.median(spent) for spent in task_runs(options.task_runs))
    print(
        f"a task run: {processor:.1f} ms of the processor, {wall:.1f} ms of the wall ({ROUNDS} x {options.task_runs})"
    )
    if options.only_task_runs:
        print(json.dumps({"benchmark": "orchestration", "task_run_ms": [round(processor, 2), round(wall, 2)]}))
        return
    experiment = load_experiment("digits", [f"training.duration={options.duration}", "training.evaluate_every=100it"])
    with tempfile.TemporaryDirectory() as store:
        outcome = sweep(experiment, options.seeds, store, Execution())
    seconds = outcome["seconds"]
    working = seconds["wall"] - seconds["start"]
    print(f"digits, {options.duration}, {outcome['committed']} trainings on {outcome['slots']} slots")
    print(f"{'':16}{'seconds':>10}{'share after start':>20}")
    for name, spent in seconds.items():
        share = "" if name in ("start", "wall") else f"{spent / working:20.1%}"
        print(f"{name:16}{spent:10.1f}{share}")
    print(
        json.dumps(
            {
                "benchmark": "orchestration",
                "task_run_ms": [round(processor, 2), round(wall, 2)],
                "orchestration_share": round(seconds["orchestration"] / working, 4),
                "seconds": {name: round(spent, 2) for name, spent in seconds.items()},
                "n": outcome["committed"],
                "slots": outcome["slots"],
                "device": f"cpu ({platform.machine()})",
                "code_version": code_version(),
            }
        )
    )


if __name__ == "__main__":
    main()
