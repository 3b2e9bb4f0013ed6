"""A levels table from a few readable tuples."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa
import pytest

Training = tuple[str, int, int, int, float | None, int | None]  # arm, seed, draw, level, accuracy, early-stop step


@pytest.fixture
def levels() -> Callable[..., pa.Table]:
    def build(trainings: Iterable[Training], experiment: str = "toy-0123456789") -> pa.Table:
        rows = [
            {
                "experiment_id": experiment, "arm": arm, "seed": seed, "draw": draw, "level": level,
                "density": 0.8**level, "weights_remaining": round(1000 * 0.8**level),
                "early_stop_step": step, "test_accuracy_at_early_stop": accuracy,
                "test_accuracy": None if accuracy is None else accuracy - 0.01,
                "train_accuracy": None if accuracy is None else accuracy + 0.04,
                "status": "diverged" if accuracy is None else "ok",
            }
            for arm, seed, draw, level, accuracy, step in trainings
        ]  # fmt: skip
        return pa.Table.from_pylist(rows)

    return build
