"""What a report costs: `lth report` of 50 seeds, 20 levels and 3 arms, made up in the real schemas with masks of LeNet.

The store holds them as curated tables. Each round is a new process; the time is the command's own, start and end of
Python included.

Run: python benchmarks/report.py [--rounds 3]. Prints a table and, as its last line, a JSON object.
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
from lth.store import Store, Unit, pack
from lth.store.curated import publish
from lth.store.published import NOTHING
from lth.sweep.record import code_version, record
from lth.sweep.setup import DataFacts

sys.path.insert(0, os.path.dirname(__file__))
from synthetic import rows_of, units, with_masks

SEEDS, LEVELS, POINTS = 50, 20, 100
LENET = {"1.weight": (300, 784), "3.weight": (100, 300), "5.weight": (10, 100)}
COMMAND = "import sys; from flows.cli import main; sys.argv[0] = 'lth'; main()"


def masks_of(unit: Unit, experiment_id: str, generator: np.random.Generator) -> pa.Table:
    """Random masks of LeNet-300-100 at the level's density."""
    return pack(
        {
            name: generator.random((len(unit.seeds), *shape), dtype=np.float32) < 0.8**unit.level
            for name, shape in LENET.items()
        },
        experiment_id,
        unit,
    )


def fill(store: Store) -> str:
    """Publish the sweep; the experiment's id."""
    experiment = load_experiment("lenet-mnist", [f"pruning.levels={LEVELS - 1}"])
    record(store, experiment, tuple(range(SEEDS)), DataFacts((1, 28, 28), 10, 60_000), "0" * 64)
    generator = np.random.default_rng(0)
    published = NOTHING
    for level in range(LEVELS):
        parts: dict[str, list[pa.Table]] = {"levels": [], "metrics": [], "masks": []}
        where = {}
        for unit in (unit for unit in units(SEEDS, LEVELS, SEEDS) if unit.level == level):
            tables, masks = rows_of(unit, experiment.id, POINTS, generator), masks_of(unit, experiment.id, generator)
            parts["levels"].append(with_masks(tables["levels"], masks))
            parts["metrics"].append(tables["metrics"])
            parts["masks"].append(masks)
            where.update({(unit.arm, unit.draw, unit.level, seed): unit.name for seed in unit.seeds})
        published = publish(
            store,
            published,
            experiment.id,
            {kind: pa.concat_tables(tables) for kind, tables in parts.items()},
            where,
        )
    return experiment.id


def main() -> None:
    """Fill a store, write its report, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    seconds, size = [], 0
    with tempfile.TemporaryDirectory() as folder:
        store, page = Store(Path(folder, "store")), Path(folder, "report.html")
        identifier = fill(store)
        for _ in range(options.rounds):
            begun = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", COMMAND, "report", identifier, "--store", store.url, "--output", str(page)],
                check=True,
                capture_output=True,
            )
            seconds.append(time.perf_counter() - begun)
        size, figures = page.stat().st_size, page.read_text().count("<figure")
    print(
        f"{SEEDS} seeds, {LEVELS} levels, 3 arms: {statistics.median(seconds):.1f} s "
        f"({min(seconds):.1f} to {max(seconds):.1f}), {size / 1e6:.2f} MB, {figures} figures"
    )
    print(
        json.dumps(
            {
                "benchmark": "report",
                "seconds": round(statistics.median(seconds), 2),
                "seconds_min_max": [round(min(seconds), 2), round(max(seconds), 2)],
                "megabytes": round(size / 1e6, 3),
                "figures": figures,
                "n": options.rounds,
                "cores": os.cpu_count(),
                "device": f"cpu ({platform.machine()})",
                "code_version": code_version(),
            }
        )
    )


if __name__ == "__main__":
    main()
