"""How long answers take on a large store: 10,000 seeds x 20 levels x 3 arms of `levels`, 60 million rows of `metrics`.

Publishes synthetic rows in the real schemas as curated tables, then measures in fresh processes: the mean and interval
of test accuracy by arm and level, opening included (`query_seconds`, median of several; imports are told apart), `lth
status` of the whole store (`status_seconds`, start of Python included), and the largest resident memory of each. It
also averages metrics by split and level, which reads all of them (`metrics_seconds`).

Run: python benchmarks/query.py [--seeds 10000]. Prints a table and, as its last line, a JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from lth.experiment import load_experiment
from lth.store import MASKS, Store
from lth.store.curated import publish
from lth.store.published import NOTHING
from lth.sweep.record import code_version, record
from lth.sweep.setup import DataFacts

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import ARMS, rows_of, units

COHORT = 250
QUESTION = """
    SELECT arm, level, count(*) AS n, avg(test_accuracy_at_early_stop) AS mean,
           1.96 * stddev_samp(test_accuracy_at_early_stop) / sqrt(count(*)) AS half
    FROM levels WHERE status = 'ok' GROUP BY ALL ORDER BY ALL"""
METRICS_QUESTION = "SELECT split, level, avg(accuracy) AS mean FROM metrics GROUP BY ALL ORDER BY ALL"
PEAK = """
def peak():  # resident memory at its highest, MiB; getrusage would count this benchmark's own before exec
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
"""
ANSWER = (
    PEAK
    + """
import json, sys, time
begun = time.perf_counter()
import duckdb, pyarrow.dataset, deltalake
import lth.results
imported = time.perf_counter()
results = lth.results.open(sys.argv[1])
opened = time.perf_counter()
rows = results.query(sys.argv[2]).num_rows
done = time.perf_counter()
print(json.dumps({"import": imported - begun, "open": opened - imported, "query": done - imported, "rows": rows,
                  "mib": peak()}))
"""
)
STATUS = (
    PEAK
    + """
import sys
from flows.cli import main
try:
    main()
finally:
    print(peak(), file=sys.stderr)
"""
)


def fill(store: Store, seeds: int, levels: int, points: int) -> tuple[int, int]:
    """Publish the sweep as curated tables, 100 units a batch: rows of levels and of metrics."""
    experiment = load_experiment("lenet-mnist", [f"pruning.levels={levels - 1}"])
    record(store, experiment, tuple(range(seeds)), DataFacts((1, 28, 28), 10, 60_000), "0" * 64)
    generator, planned, counts = np.random.default_rng(0), units(seeds, levels, COHORT), [0, 0]
    published = NOTHING
    for start in range(0, len(planned), 100):
        batch = planned[start : start + 100]
        parts = [rows_of(unit, experiment.id, points, generator) for unit in batch]
        tables = {kind: pa.concat_tables([part[kind] for part in parts]) for kind in ("levels", "metrics")}
        tables["masks"] = MASKS.empty_table()
        where = {(unit.arm, unit.draw, unit.level, seed): unit.name for unit in batch for seed in unit.seeds}
        published = publish(store, published, experiment.id, tables, where)
        counts[0] += tables["levels"].num_rows
        counts[1] += tables["metrics"].num_rows
    return counts[0], counts[1]


def ask(store: Store, question: str) -> dict[str, float]:
    """Open the store and ask, in a process of its own."""
    output = subprocess.run(
        [sys.executable, "-c", ANSWER, store.url, question], check=True, capture_output=True, text=True
    ).stdout
    return dict(json.loads(output))


def status(store: Store) -> dict[str, float]:
    """`lth status`, in a process of its own: seconds from its start to its end, and its largest memory."""
    begun = time.perf_counter()
    found = subprocess.run(
        [sys.executable, "-c", STATUS, "status", "--store", store.url], check=True, text=True, capture_output=True
    )
    return {"seconds": time.perf_counter() - begun, "mib": float(found.stderr)}


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--levels", type=int, default=20)
    parser.add_argument("--points", type=int, default=50, help="steps at which val and test were measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", type=Path, default=None, help="keep the store here, or take the one that is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(options.store or Path(folder, "store"))
        if not store.experiments():
            fill(store, options.seeds, options.levels, options.points)
        answers = [ask(store, QUESTION) for _ in range(options.rounds)]
        whole = ask(store, METRICS_QUESTION)
        shown = [status(store) for _ in range(options.rounds)]
    rows = options.seeds * (options.levels * len(ARMS))
    print(f"{rows:,} rows of levels, {2 * options.points * rows:,} of metrics; {os.cpu_count()} cores")
    print(f"{'':>28}{'seconds':>10}{'MiB':>8}")
    for name, seconds, mib in (
        ("imports", [each["import"] for each in answers], 0.0),
        ("open", [each["open"] for each in answers], 0.0),
        ("open and ask by arm, level", [each["query"] for each in answers], max(each["mib"] for each in answers)),
        ("open and ask all metrics", [whole["query"]], whole["mib"]),
        ("lth status", [each["seconds"] for each in shown], max(each["mib"] for each in shown)),
    ):
        print(f"{name:>28}{statistics.median(seconds):10.2f}{mib:8.0f}")
    print(
        json.dumps(
            {
                "benchmark": "query",
                "query_seconds": round(statistics.median(each["query"] for each in answers), 3),
                "status_seconds": round(statistics.median(each["seconds"] for each in shown), 2),
                "metrics_seconds": round(whole["query"], 2),
                "mib": round(max(each["mib"] for each in [*answers, whole, *shown])),
                "rows": rows,
                "n": options.rounds,
                "device": f"cpu ({platform.machine()})",
                "code_version": code_version(),
            }
        )
    )


if __name__ == "__main__":
    main()
