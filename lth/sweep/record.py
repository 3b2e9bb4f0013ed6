"""What a store says of an experiment as a whole: its spec, the data it began with, and where it first ran."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from lth import yaml_text
from lth.errors import DamagedObject, LthError
from lth.experiment import Experiment, format_seeds
from lth.store import Store
from lth.sweep.network_texts import network_record
from lth.sweep.networks import network_of
from lth.sweep.pins import Pins, pin
from lth.sweep.setup import DataFacts
from lth.version import __version__


def code_version() -> str:
    """The package's version, and the commit when it runs from a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return __version__
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+{commit.stdout.strip()}"


def record(
    store: Store,
    experiment: Experiment,
    seeds: Sequence[int] | None,
    facts: DataFacts,
    fingerprint: str,
    pins: Pins | None = None,
    on_cpu: bool = True,
) -> None:
    """Write the experiment and this sweep down (no sweep without seeds); refuse if it began with other data or `pins`.

    `fingerprint` is the data set's SHA-256: the id names the data, this pins its bytes. `on_cpu`: a CPU trains.
    """
    import numpy
    import torch

    data = {**asdict(facts), "input_shape": list(facts.input_shape), "caveats": list(facts.caveats)}
    if not facts.caveats:
        del data["caveats"]
    first = {
        "experiment": experiment.model_dump(mode="json"),
        "id": experiment.id,
        "margin": experiment.margin,
        "data": data,
        "data_sha256": fingerprint,
        "network": network_record(experiment, facts),
        "first_run": {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "code_version": code_version(),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": numpy.__version__,
            "platform": platform.platform(),
        },
    }
    store.put_experiment(experiment.id, yaml_text.dump(first))
    began = str(store.describe(experiment.id).get("data_sha256"))
    if began != fingerprint:
        raise LthError(
            f"the data set {experiment.dataset.name!r} is not the one that {experiment.id} began with (SHA-256 "
            f"{fingerprint[:12]}, then {began[:12]}); put the old data back, or use another store or experiment name"
        )
    if pins is not None:
        pin(store, experiment.id, pins, on_cpu)
    network = store.describe(experiment.id).get("network")
    if isinstance(network, dict) and not network_of(experiment, facts).sketch.agrees(network.get("sketch")):
        raise LthError(
            f"the network that model {experiment.model.name!r} builds is not the one that {experiment.id} began with "
            "(its weights differ from the same seed); put back its code and what it reads, or use another store or "
            "experiment name"
        )
    if seeds is not None:
        _record_start(store, experiment, seeds)


def _record_start(store: Store, experiment: Experiment, seeds: Sequence[int]) -> None:
    """Write down what this start trains, and how many other starts there were: whether seeds were added later decides
    how a sweep is judged, and a clock may be wrong."""
    start = {
        "seeds": format_seeds(seeds),
        "levels": experiment.pruning.levels,
        "arms": [f"{arm.name}:{arm.draws}" for arm in experiment.arms],
        "margin": experiment.margin,
    }
    try:
        others = store.sweeps(experiment.id)
    except DamagedObject:  # which is named by `lth verify`; verdicts then take nothing for the first look
        others = []
    if all({key: value for key, value in other.items() if key != "place"} != start for other in others):
        store.put_sweep(experiment.id, {**start, "place": len(others)})
