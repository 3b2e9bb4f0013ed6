"""The tables of a unit: one row per seed in `levels`, curves in `metrics`, packed bits in `masks`."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from lth.engine import Trained
from lth.experiment import Experiment
from lth.processor import instructions
from lth.store import LEVELS, MASKS, METRICS, Unit, mask_sha256, pack
from lth.store.score_columns import ACCURACY, NAME, SCORES_OF
from lth.structured import alive_units, unit_masks
from lth.sweep.planning import Work
from lth.sweep.setup import Setup
from lth.sweep.sources import source_of
from lth.version import ENGINE_VERSION


@dataclass(frozen=True)
class Figures:
    """What the final evaluation of a cohort found; arrays [seeds], losses and scores of the objective."""

    train_loss: np.ndarray
    train_score: np.ndarray
    test_loss: np.ndarray
    test_score: np.ndarray
    early_test_loss: np.ndarray
    early_test_score: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[Figures]) -> Figures:
        """The blocks of a cohort, one after another."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def tables(
    experiment: Experiment,
    setup: Setup,
    work: Work,
    masks: Mapping[str, np.ndarray],
    trained: Trained | None,
    figures: Figures | None,
    latency: np.ndarray | None = None,
    *,
    device: str,
    threads: int,
    code_version: str,
    score: str = ACCURACY,
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """The `levels`, `metrics` and `masks` tables of a unit, lost seeds included; `score` names what it is judged by."""
    unit = work.unit
    common = {"experiment_id": experiment.id, "arm": unit.arm, "draw": unit.draw, "level": unit.level}
    total = setup.weights_total
    sizes = _sizes(setup, masks, work.seeds)
    mask_table = MASKS.empty_table()
    if masks:  # of the seeds that have one: a lost seed does not
        mask_table = pack(masks, experiment.id, Unit(unit.arm, unit.draw, unit.level, work.seeds))
    mask_of = mask_sha256(mask_table)
    dataset = experiment.dataset
    description = {
        **common,
        "weights_total": total,
        "criterion": source_of(experiment).criterion,
        "model": experiment.model.name,
        "dataset": dataset.name + (f":{dataset.path}" if dataset.path else ""),
        "device": device,
        "cohort_size": len(unit.seeds),
        "threads": threads,
        "precision": experiment.training.precision,
        "code_version": code_version,
        "instructions": instructions(),
        "torch": str(torch.__version__),
        "engine": ENGINE_VERSION,
        "finished_at": datetime.datetime.now(datetime.UTC),
    }
    level_rows, metric_rows = [], []
    for seed in unit.seeds:
        remaining, parameters, flops = sizes.get(seed, (None, None, None))
        density = None if remaining is None else remaining / total
        row: dict[str, Any] = {
            **description,
            "seed": seed,
            "weights_remaining": remaining,
            "density": density,
            "parameters": parameters,
            "flops": flops,
            "status": "diverged",
            "steps": 0,
            "mask_sha256": None,
        }
        if trained is not None and figures is not None and seed in work.seeds:
            position = work.seeds.index(seed)
            row.update(_level_row(trained, figures, position, setup))
            row["mask_sha256"] = mask_of[seed]
            row["latency_seconds"] = None if latency is None else float(latency[position])
            metric_rows += [
                {**common, "seed": seed, "density": density, **metric}
                for metric in _metric_rows(trained, figures, position)
            ]
        level_rows.append(row)
    return _table(level_rows, LEVELS, score), _table(metric_rows, METRICS, score), mask_table


def _table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema, score: str) -> pa.Table:
    """Rows of scores as a table: of accuracies in the columns of accuracy too."""
    also = {accuracy: name for name, accuracy in SCORES_OF.items()} if score == ACCURACY else {}
    columns = [
        pa.array(
            [score if field.name == NAME else row.get(also.get(field.name, field.name)) for row in rows], field.type
        )
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _sizes(setup: Setup, masks: Mapping[str, np.ndarray], seeds: Sequence[int]) -> dict[int, tuple[int, int, int]]:
    """Of each seed that has a mask: prunable weights that remain, all parameters that do, operations per example."""
    if not masks:
        return {}
    network = setup.network
    kept = {name: mask.reshape(len(mask), -1).sum(1) for name, mask in masks.items()}
    remaining = sum(kept.values(), np.zeros(len(seeds), np.int64))
    gone: dict[str, np.ndarray] = {}
    if setup.groups:  # with removed units go their biases and norms, and what reads them in layers never pruned
        bits = {name: torch.from_numpy(mask) for name, mask in masks.items()}
        others = {slot.name: slot.shape for slot in network.layout.slots if slot.name not in masks}
        gone = {
            name: (~mask).flatten(1).sum(1).numpy()
            for name, mask in unit_masks(setup.groups, alive_units(setup.groups, bits), others).items()
        }
    parameters = remaining + sum(
        math.prod(shape) - gone.get(name, 0) for name, shape in network.shapes.items() if name not in masks
    )
    flops = sum(
        (2 * kept[tensor.name] * tensor.positions for tensor in network.prunable), np.zeros(len(seeds), np.int64)
    )
    flops += sum(2 * (tensor.size - gone.get(tensor.name, 0)) * tensor.positions for tensor in setup.elsewhere)
    return {seed: (int(remaining[row]), int(parameters[row]), int(flops[row])) for row, seed in enumerate(seeds)}


def _level_row(trained: Trained, figures: Figures, position: int, setup: Setup) -> dict[str, Any]:
    curves = trained.curves
    last, early = int(trained.last_step[position]), int(trained.early_stop_step[position])
    at_last, at_early = (int(torch.searchsorted(curves.steps, step)) for step in (last, early))
    seconds = None if trained.seconds is None else float(trained.seconds[position])
    done = last - int(curves.steps[0])
    spent = {
        "train_seconds": seconds,
        "examples_per_second": done * setup.recipe.batch_size / seconds if seconds else None,
    }
    if bool(trained.diverged[position]):  # its curve is in `metrics`; a figure of it here would mislead
        return {"steps": last, "status": "diverged", **spent}
    return {
        "steps": last,
        "early_stop_step": early,
        "train_score": number(figures.train_score[position]),
        "train_loss": number(figures.train_loss[position]),
        "val_score_at_early_stop": number(curves.validation_score[position, at_early]),
        "test_score_at_early_stop": number(figures.early_test_score[position]),
        "val_score": number(curves.validation_score[position, at_last]),
        "test_score": number(figures.test_score[position]),
        "test_loss": number(figures.test_loss[position]),
        "status": "ok",
        **spent,
    }


def _metric_rows(trained: Trained, figures: Figures, position: int) -> list[dict[str, Any]]:
    curves, last = trained.curves, int(trained.last_step[position])
    steps = [step for step in curves.steps.tolist() if step <= last]  # further, if others of its cohort trained on
    rows = []
    for split, losses, scores in (
        ("train", curves.train_loss, curves.train_score),
        ("val", curves.validation_loss, curves.validation_score),
    ):
        begin = 1 if split == "train" else 0  # before the first step there is no training batch
        figures_of = zip(losses[position].tolist(), scores[position].tolist(), strict=True)
        rows += [
            {"step": step, "split": split, "loss": number(loss), "score_value": number(score)}
            for step, (loss, score) in list(zip(steps, figures_of, strict=False))[begin:]
        ]
    early = int(trained.early_stop_step[position])
    tests = {
        early: (figures.early_test_loss, figures.early_test_score),
        last: (figures.test_loss, figures.test_score),
    }
    return rows + [
        {"step": step, "split": "test", "loss": number(loss[position]), "score_value": number(score[position])}
        for step, (loss, score) in tests.items()
    ]


def number(value: Any) -> float | None:
    """A float for a table; what is not finite becomes null."""
    value = float(value)
    return value if math.isfinite(value) else None
