"""The flow `connectivity` on a real local Ray and a real Prefect server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

import flows.connectivity
from flows.connectivity import connectivity
from lth.data import load_dataset
from lth.errors import LthError
from lth.experiment import Execution, load_experiment
from lth.store import Store
from lth.sweep.connectivity import Measure, connect, missing
from lth.sweep.handover import Job
from lth.sweep.here import run_here
from lth.sweep.setup import DataFacts
from tasks.cluster import Cluster

pytestmark = pytest.mark.usefixtures("two_cores")
TWO_CORES = Execution(cores=2, cohort_size=2)


def test_the_flow_lands_what_measuring_here_gives_and_only_what_is_missing(tmp_path: Path) -> None:
    experiment, store, digits = load_experiment("smoke", ["name=lines"]), Store(tmp_path), load_dataset("digits")
    run_here(experiment, (0, 1, 2), store, digits)
    options = {
        "levels": [0, 1],
        "arms": ["ticket", "random_mask"],
        "steps": ["0it", "1ep"],
        "copies": 2,
        "points": 3,
        "execution": TWO_CORES,
    }
    assert connectivity(experiment, "0-1", store.url, **options) == 2 * (2 + 2 * 2)  # level 0: the ticket only
    assert connectivity(experiment, "0-2", store.url, **options) == 2 + 2 * 2
    assert connectivity(experiment, "0-2", store.url, **options) == 0

    alone = Store(tmp_path / "alone")
    run_here(experiment, (0, 1, 2), alone, digits)
    job = Job(experiment, DataFacts.of(digits), alone.url)
    todo = missing(job, (0, 1, 2), [0, 1], ["ticket", "random_mask"], ["0it", "1ep"], Measure(2, 3), 3)
    here = pa.concat_tables([connect(job, item, Measure(2, 3), digits) for item in todo])
    order = [(name, "ascending") for name in ("arm", "level", "step", "seed")]
    assert store.read_analysis("connectivity", experiment.id)[0].sort_by(order) == here.sort_by(order)
    assert len(store.sweeps(experiment.id)) == 1  # measuring is no sweep


def test_a_stop_while_the_data_are_read_ends_the_flow_as_ctrl_c_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def stopped(cluster: Cluster) -> Iterator[None]:
        cluster.stopping.set()
        yield

    monkeypatch.setattr(flows.connectivity, "stopped_by_signals", stopped)
    with pytest.raises(KeyboardInterrupt):
        connectivity(load_experiment("smoke"), "0", str(tmp_path), copies=2, points=3, execution=TWO_CORES)


def test_what_is_not_there_is_refused_before_anything_trains(tmp_path: Path) -> None:
    with pytest.raises(LthError, match="level 1 of smoke-.* has no masks"):
        connectivity(load_experiment("smoke"), "0", str(tmp_path), levels=[1], execution=TWO_CORES)
