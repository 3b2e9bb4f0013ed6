"""Made-up results in the real schemas, for benchmarks of stores too large to be trained."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa

from lth.store import LEVELS, METRICS, Unit, conform, mask_sha256, pack

ARMS = ("ticket", "reinit", "random_mask")
SHAPE = (30, 20)
"""Of the only prunable tensor of made-up masks."""


def units(seeds: int, levels: int, cohort: int) -> list[Unit]:
    """The units of a sweep of three arms."""
    return [
        Unit(arm, 0, level, tuple(range(start, min(start + cohort, seeds))))
        for level in range(levels)
        for arm in ARMS
        for start in range(0, seeds, cohort)
    ]


def masks_of(unit: Unit, experiment_id: str) -> pa.Table:
    """Random masks of one small tensor."""
    generator = np.random.default_rng(unit.seeds[0])
    return pack({"layer.weight": generator.random((len(unit.seeds), *SHAPE)) < 0.8**unit.level}, experiment_id, unit)


def with_masks(levels: pa.Table, masks: pa.Table) -> pa.Table:
    """Rows of levels that name those masks."""
    digests = mask_sha256(masks)
    column = pa.array([digests[seed] for seed in levels["seed"].to_pylist()], pa.string())
    return levels.set_column(levels.column_names.index("mask_sha256"), LEVELS.field("mask_sha256"), column)


def rows_of(unit: Unit, experiment_id: str, points: int, generator: np.random.Generator) -> dict[str, pa.Table]:
    """Made-up rows of a unit in the real schemas."""
    n, density = len(unit.seeds), 0.8**unit.level
    seeds = np.array(unit.seeds)
    accuracy = 0.97 + generator.normal(0, 0.002, n)
    known: dict[str, object] = {
        "experiment_id": experiment_id,
        "arm": unit.arm,
        "seed": seeds,
        "draw": 0,
        "level": unit.level,
        "density": density,
        "weights_remaining": round(266_200 * density),
        "weights_total": 266_200,
        "parameters": round(266_610 * density),
        "flops": round(532_400 * density),
        "criterion": "magnitude",
        "dataset": "mnist",
        "model": "lenet-300-100",
        "steps": 50_000,
        "early_stop_step": generator.integers(2_000, 9_000, n),
        "train_accuracy": np.minimum(accuracy + 0.02, 1),
        "train_loss": generator.uniform(0, 0.1, n),
        "val_accuracy_at_early_stop": accuracy,
        "test_accuracy_at_early_stop": accuracy,
        "val_accuracy": accuracy,
        "test_accuracy": accuracy,
        "test_loss": generator.uniform(0.1, 0.2, n),
        "status": "ok",
        "train_seconds": generator.uniform(9, 11, n),
        "examples_per_second": generator.uniform(2e5, 3e5, n),
        "device": "cpu",
        "cohort_size": n,
        "threads": 1,
        "precision": "float32",
        "mask_sha256": "0" * 64,
        "code_version": "0.1.0",
        "finished_at": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    }
    repeated = np.repeat(seeds, 2 * points)
    measured: dict[str, object] = {
        "experiment_id": experiment_id,
        "arm": unit.arm,
        "seed": repeated,
        "draw": 0,
        "level": unit.level,
        "density": density,
        "step": np.tile(np.repeat(np.arange(points) * 1_000, 2), n),
        "split": np.tile(np.array(["test", "val"]), n * points),
        "loss": generator.uniform(0, 1, len(repeated)),
        "accuracy": generator.uniform(0.9, 1, len(repeated)),
    }
    found = {"levels": _table(known, n, LEVELS), "metrics": _table(measured, len(repeated), METRICS)}
    return {kind: conform(table, kind) for kind, table in found.items()}


def _table(known: dict[str, object], rows: int, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        value = known.get(field.name)
        columns.append(
            pa.array(value, field.type) if isinstance(value, np.ndarray) else pa.array([value] * rows, field.type)
        )
    return pa.Table.from_arrays(columns, schema=schema)
