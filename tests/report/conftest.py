"""A levels table whose means and intervals are known: seed offsets around the accuracy given per arm and level."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
import pytest

OFFSETS = (-0.002, -0.001, 0.0, 0.001, 0.002)
"""Of five seeds: sd 0.00158114, so half the 95% interval is 2.776 * 0.000707107 = 0.00196 (0.20 points)."""


@pytest.fixture
def sweep() -> Callable[..., pa.Table]:
    """`sweep({"ticket": [dense, level 1, …], "reinit": [None, level 1, …]})`; None: never trained at that level."""

    def build(
        accuracies: Mapping[str, Sequence[float | None]],
        *,
        offsets: Sequence[float] = OFFSETS,
        experiment: str = "toy-0123456789",
        diverged: Sequence[tuple[str, int, int]] = (),
    ) -> pa.Table:
        rows = []
        for arm, by_level in accuracies.items():
            for level, accuracy in enumerate(by_level):
                for seed, offset in enumerate(offsets):
                    if accuracy is None:
                        continue
                    fine = (arm, level, seed) not in diverged
                    rows.append({
                        "experiment_id": experiment, "arm": arm, "seed": seed, "draw": 0, "level": level,
                        "density": 0.8**level, "weights_remaining": round(266_200 * 0.8**level),
                        "early_stop_step": 5000 - 100 * level if fine else None,
                        "test_accuracy_at_early_stop": accuracy + offset if fine else None,
                        "test_accuracy": accuracy if fine else None,
                        "train_accuracy": 1.0 if fine else None,
                        "status": "ok" if fine else "diverged", "device": "cpu", "code_version": "0.1.0",
                    })  # fmt: skip
        return pa.Table.from_pylist(rows)

    return build
