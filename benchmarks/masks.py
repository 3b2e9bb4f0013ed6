"""What masks cost in a store, against the entropy of independent bits of their density.

Encodes random masks of LeNet-300-100 at every level of the published ladder, as a unit's object: everything in it is
counted. `ratio` is bits a weight by H(density); where trained masks prune layers differently they cost less still.

Run: python benchmarks/masks.py [--seeds 64]. Prints a table and, as its last line, a JSON object.
"""

from __future__ import annotations

import argparse
import json
import platform
import time

import numpy as np

from lth.store import Unit, pack, parquet
from lth.sweep.record import code_version

SHAPES = {"0.weight": (300, 784), "2.weight": (100, 300), "4.weight": (10, 100)}
WEIGHTS = sum(rows * columns for rows, columns in SHAPES.values())


def entropy(density: float) -> float:
    """Bits a weight."""
    return 0.0 if density in (0, 1) else -(density * np.log2(density) + (1 - density) * np.log2(1 - density))


def main() -> None:
    """Encode level by level, print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=64, help="seeds a unit")
    options = parser.parse_args()
    ratios, seconds = [], []
    print(f"{'level':>6}{'density':>10}{'bits a weight':>15}{'entropy':>10}{'ratio':>8}")
    for level in range(20):
        generator = np.random.default_rng(level)
        masks = {name: generator.random((options.seeds, *shape)) < 0.8**level for name, shape in SHAPES.items()}
        rows = pack(masks, "lenet-mnist-0123456789", Unit("ticket", 0, level, tuple(range(options.seeds))))
        begun = time.perf_counter()
        data = parquet.encode(rows, {})
        parquet.decode(data, "masks")
        seconds.append(time.perf_counter() - begun)
        density = sum(int(mask.sum()) for mask in masks.values()) / (options.seeds * WEIGHTS)
        bits = 8 * len(data) / (options.seeds * WEIGHTS)
        ratios.append(bits / entropy(density) if level else float("nan"))
        print(f"{level:6d}{density:10.4f}{bits:15.5f}{entropy(density):10.5f}{ratios[-1]:8.3f}")
    print(
        json.dumps(
            {
                "benchmark": "masks",
                "ratio_max": round(float(np.nanmax(ratios)), 3),
                "n": options.seeds,
                "seconds_to_write_and_read_a_seed": round(float(np.median(seconds)) / options.seeds, 5),
                "device": f"cpu ({platform.machine()})",
                "code_version": code_version(),
            }
        )
    )


if __name__ == "__main__":
    main()
