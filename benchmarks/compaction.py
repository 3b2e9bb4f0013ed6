"""What it costs to compact landed objects: seconds and memory against their number.

Lands units of one seed (three objects each) in a folder, then compacts them in a fresh process, for several numbers of
units. `exponent` is the slope of log seconds over log objects between the smallest and the largest: 1 is linear.

Run: python benchmarks/compaction.py [--objects 2500 5000 10000]. Prints a table and, as its last line, a JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile

from lth.sweep.record import code_version

LAND = """
import sys
sys.path.insert(0, sys.argv[3])
import numpy as np
from synthetic import masks_of, rows_of, with_masks
from lth.store import Store, Unit
store, generator = Store(sys.argv[1]), np.random.default_rng(0)
store.put_experiment("made-0123456789", "data_sha256: none\\n")
for seed in range(int(sys.argv[2])):
    unit = Unit("ticket", 0, 1, (seed,))
    tables, masks = rows_of(unit, "made-0123456789", 50, generator), masks_of(unit, "made-0123456789")
    store.commit("made-0123456789", unit, with_masks(tables["levels"], masks), tables["metrics"], masks)
"""
COMPACT = """
import json, sys, time
from lth.store import Store
from lth.store.curated import compact
store = Store(sys.argv[1])
begun = time.perf_counter()
done = compact(store)
seconds = time.perf_counter() - begun
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
again = time.perf_counter()
assert not any(compact(store).added.values())
print(json.dumps({"seconds": seconds, "mib": peak, "trainings": done.added["levels"],
                  "again": time.perf_counter() - again}))
"""


def main() -> None:
    """Land, compact, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, nargs="+", default=[2500, 5000, 10_000])
    options = parser.parse_args()
    found = []
    for objects in sorted(options.objects):
        with tempfile.TemporaryDirectory() as store:
            here = os.path.dirname(__file__)
            subprocess.run([sys.executable, "-c", LAND, store, str(objects // 3), here], check=True)
            output = subprocess.run([sys.executable, "-c", COMPACT, store], check=True, text=True, capture_output=True)
        found.append((objects, json.loads(output.stdout)))
    print(f"{'objects':>10}{'seconds':>10}{'a thousand':>12}{'MiB':>8}{'nothing new':>13}")
    for objects, each in found:
        print(
            f"{objects:10,d}{each['seconds']:10.1f}{1000 * each['seconds'] / objects:12.2f}{each['mib']:8.0f}"
            f"{each['again']:11.2f} s"
        )
    (few, first), (many, last) = found[0], found[-1]
    exponent = math.log(last["seconds"] / first["seconds"]) / math.log(many / few) if many > few else math.nan
    print(
        json.dumps(
            {
                "benchmark": "compaction",
                "seconds": round(last["seconds"], 2),
                "exponent": round(exponent, 2),
                "mib": round(last["mib"]),
                "objects": many,
                "n": len(found),
                "device": f"cpu ({platform.machine()})",
                "code_version": code_version(),
            }
        )
    )


if __name__ == "__main__":
    main()
