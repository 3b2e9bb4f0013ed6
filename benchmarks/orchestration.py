"""What orchestration costs: a sweep of about five minutes through Prefect and Ray, and where its wall time went.

`orchestration_share` is the part of the wall time after the start of Prefect and Ray that no stage spent training,
evaluating, pruning or storing: scheduling, handing over, waiting, idle slots at the end.

Run: python benchmarks/orchestration.py [--duration 7000it]. Prints a table and, as its last line, a JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile

os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

from flows.sweep import sweep
from lth.experiment import Execution, load_experiment
from lth.sweep.record import code_version


def main() -> None:
    """Run the sweep in a temporary store, print the split and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duration", default="7000it", help="length of every training of the digits sweep")
    parser.add_argument("--seeds", default="0-4")
    options = parser.parse_args()
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
