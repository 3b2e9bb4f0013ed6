"""How many units share a GPU. No GPU is needed: what Ray and the worker say of one is given."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from flows.session import Session
from lth.data import load_dataset
from lth.experiment import Execution, load_experiment
from lth.sweep.cohort_size import bytes_on_gpu
from lth.sweep.handover import Job
from lth.sweep.setup import DataFacts
from tasks.cluster import Share
from tasks.remote import Read
from tasks.stages import Prepared

GB = 10**9


def session(execution: Execution, memory: int) -> Session:
    """A session whose data was read beside a GPU of that much memory."""
    facts, found = DataFacts.of(load_dataset("digits")), Session.__new__(Session)
    found.experiment, found.seeds, found.execution = load_experiment("smoke"), tuple(range(1000)), execution
    found.log = logging.getLogger("test")
    found.share = Share(execution.threads, execution.gpu_share or 1.0)
    found.job = Job(found.experiment, facts, "memory://")
    found.prepared = Prepared(Read(facts, "", GB, memory, "AVX2", None), None)  # type: ignore[arg-type]
    return found


def cluster(cores: int) -> SimpleNamespace:
    return SimpleNamespace(slots=lambda share: int(1 / share.gpus + 1e-9), cores_per_gpu=lambda: cores)


@pytest.mark.parametrize(("cores", "threads", "units"), [(64, 1, 5), (3, 1, 3), (6, 3, 2), (1, 1, 1)])
def test_the_largest_cohort_comes_first_and_the_rest_of_the_gpu_is_shared(
    caplog: pytest.LogCaptureFixture, cores: int, threads: int, units: int
) -> None:
    caplog.set_level(logging.INFO)
    one = session(Execution(threads=threads), 0)
    network, recipe = one.job.setup.network, one.job.setup.recipe
    needed = bytes_on_gpu(256, network.layout.width, network.activation_floats * recipe.batch_size, GB)
    one = session(Execution(threads=threads), int(5.5 * needed / 0.9))
    assert one.choose_cohort_size(cluster(cores)) == 256  # type: ignore[arg-type]
    assert one.share == Share(threads, 1 / units)
    said = caplog.messages[-1]
    assert f"about {needed / 1e9:.1f} GB" in said and (f"up to {units} share" in said or units == 1)


def test_a_share_that_was_asked_for_stands() -> None:
    one = session(Execution(gpu_share=0.25), 8 * GB)
    assert one.choose_cohort_size(cluster(64)) == 250  # type: ignore[arg-type]
    assert one.share == Share(1, 0.25)


@pytest.mark.services
@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU here")
def test_a_gpu_that_torch_does_not_see_is_one_line_before_anything_trains(tmp_path: Path) -> None:
    """Ray counts what it was told that a machine has."""
    code = (
        "import ray; ray.init(address='local', num_cpus=2, num_gpus=1, include_dashboard=False); "
        "from flows.sweep import sweep; from lth.experiment import load_experiment\n"
        f"try: sweep(load_experiment('smoke'), '0', {str(tmp_path)!r})\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, timeout=200, capture_output=True, text=True)
    assert "LthError Ray offers a GPU on " in output.stdout and "sees none there; install" in output.stdout
    assert not list(tmp_path.glob("levels/*/*"))
