"""Small made-up results of a cohort, the same for the same seed whatever its cohort."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa

from lth.store import Unit, conform, mask_sha256, pack
from lth.store.schemas import UNIT_SCHEMAS
from lth.store.score_columns import SCORES_OF

EXPERIMENT = "tiny-0123456789"
SHAPES = {"hidden.weight": (3, 5), "output.weight": (2, 3)}
WEIGHTS = 3 * 5 + 2 * 3
BEGINNING = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def mask_of(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {tensor: generator.random(shape) < 0.5 for tensor, shape in SHAPES.items()}


def masks_of(seeds: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {tensor: np.stack([mask_of(seed)[tensor] for seed in seeds]) for tensor in SHAPES}


def tables(
    unit: Unit, experiment_id: str = EXPERIMENT, *, minutes: int = 0, accuracy: float = 0.0, score: str = "accuracy"
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """(levels, metrics, masks); `accuracy` is added to every test accuracy, `minutes` to the time it was finished.

    With another `score` than accuracy the same values are that score's."""
    masks = pack(masks_of(unit.seeds), experiment_id, unit)
    digests = mask_sha256(masks)
    levels: list[dict[str, object]] = []
    metrics: list[dict[str, object]] = []
    for seed in unit.seeds:
        remaining = int(sum(mask.sum() for mask in mask_of(seed).values()))
        place = {
            "experiment_id": experiment_id,
            "arm": unit.arm,
            "seed": seed,
            "draw": unit.draw,
            "level": unit.level,
            "density": remaining / WEIGHTS,
        }
        levels.append(
            {
                **place,
                "weights_remaining": remaining,
                "weights_total": WEIGHTS,
                "criterion": "magnitude",
                "dataset": "digits",
                "model": "tiny",
                "steps": 20,
                "early_stop_step": 10,
                "train_accuracy": 0.75,
                "train_loss": 0.5,
                "val_accuracy_at_early_stop": 0.5,
                "test_accuracy_at_early_stop": 0.5,
                "val_accuracy": 0.5,
                "test_accuracy": 0.5 + seed / 1000 + accuracy,
                "test_loss": 0.625,
                "status": "ok",
                "train_seconds": 1.5,
                "examples_per_second": 100.0,
                "device": "cpu",
                "cohort_size": len(unit.seeds),
                "threads": 1,
                "precision": "float32",
                "mask_sha256": digests[seed],
                "code_version": "0.1.0",
                "finished_at": BEGINNING + datetime.timedelta(minutes=minutes),
            }
        )
        for step in (0, 10, 20):
            metrics.extend(
                {**place, "step": step, "split": split, "loss": 1 / (1 + step + seed), "accuracy": 0.5}
                for split in ("val", "test")
            )
    return _table("levels", levels, score), _table("metrics", metrics, score), masks


def _table(kind: str, rows: list[dict[str, object]], score: str) -> pa.Table:
    if score != "accuracy":
        for row in rows:
            row["score"] = score
            row |= {name: row.pop(accuracy) for name, accuracy in SCORES_OF.items() if accuracy in row}
    columns = UNIT_SCHEMAS[kind].names
    known = pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows], UNIT_SCHEMAS[kind])
    return conform(known, kind)


def change(table: pa.Table, column: str, row: int, value: object) -> pa.Table:
    """The table with one value replaced; of an accuracy the score's too, which is the same."""
    for name, accuracy in SCORES_OF.items():
        if column == accuracy and name in table.column_names:
            table = change(table, name, row, value)
    values = table[column].to_pylist()
    values[row] = value
    field = table.schema.field(column)
    return table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type))
