"""Whether the memory of a sweep grows with its units: the flow's process is watched while hundreds of units pass by.

Runs a sweep of many small units through Prefect and Ray and samples, after every committed unit, the resident memory of
the flow's process and the bytes that Ray's object store holds. `mib_per_1000_units` is the slope of a straight line
through the second half of the samples, when everything that is loaded once has been loaded.

Run: python benchmarks/memory.py [--levels 40]. Prints a table and, as its last line, a JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile

os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

import numpy as np
import psutil
import ray

from flows.sweep import sweep
from lth.experiment import Execution, load_experiment
from lth.sweep.progress import LISTENER, Event, UnitChanged
from lth.sweep.record import code_version

MIB = 2**20


def main() -> None:
    """Run the sweep in a temporary store, print the samples and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--levels", type=int, default=40)
    parser.add_argument("--seeds", default="0-3")
    options = parser.parse_args()
    experiment = load_experiment("smoke", [f"pruning.levels={options.levels}", "pruning.fraction=0.1"])
    process = psutil.Process()
    samples: list[tuple[float, float]] = []

    def sample(event: Event) -> None:
        if isinstance(event, UnitChanged) and event.what == "committed":
            resources = ray.cluster_resources(), ray.available_resources()
            held = resources[0].get("object_store_memory", 0) - resources[1].get("object_store_memory", 0)
            samples.append((process.memory_info().rss / MIB, held / MIB))

    LISTENER.set(sample)
    with tempfile.TemporaryDirectory() as store:
        outcome = sweep(experiment, options.seeds, store, Execution(cohort_size=1))
    units = len(samples)
    print(f"{units} units of one seed, {outcome['slots']} slots")
    print(f"{'after unit':>12}{'flow MiB':>12}{'object store MiB':>20}")
    for at in np.linspace(0, units - 1, 9).astype(int):
        print(f"{at + 1:12d}{samples[at][0]:12.1f}{samples[at][1]:20.1f}")
    second = np.array(samples[units // 2 :])
    slopes = [float(np.polyfit(np.arange(len(second)), second[:, column], 1)[0]) * 1000 for column in (0, 1)]
    print(
        json.dumps(
            {
                "benchmark": "memory",
                "mib_per_1000_units": round(slopes[0], 2),
                "object_store_mib_per_1000_units": round(slopes[1], 2),
                "flow_mib_first_last": [round(samples[0][0], 1), round(samples[-1][0], 1)],
                "n": units,
                "device": f"cpu ({platform.machine()})",
                "code_version": code_version(),
            }
        )
    )


if __name__ == "__main__":
    main()
