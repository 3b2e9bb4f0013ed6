"""A field that is one of several registered kinds: read, said again, taken to another process, brought by a user."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from lth.engine import OPTIMIZERS
from lth.errors import InvalidExperiment
from lth.experiment import Experiment, load_experiment

BOUNCED = '''"""An optimizer of a user's own."""

from dataclasses import dataclass

import torch

from lth.engine import register_optimizer
from lth.settings import Steps, setting


@register_optimizer("signed", "The sign of the gradient, for so many steps.")
@dataclass(frozen=True)
class Signed:
    """Steps of one length."""

    learning_rate: float = setting(0.01, "Length of a step.", gt=0, le=1)
    until: Steps = setting(5, "When steps end.")

    def moments(self, weights):
        return {"count": torch.zeros((), device=weights.device)}

    def step(self, weights, gradient, moments, learning_rate):
        moments["count"] += 1
        if int(moments["count"]) <= self.until:
            weights.sub_(gradient.sign(), alpha=learning_rate)
'''


def test_an_experiment_is_the_same_in_another_process() -> None:
    experiment = load_experiment("smoke", ["training.schedule={kind: step, milestones: [10it]}"])
    data = pickle.dumps(experiment)
    assert pickle.loads(data) == experiment
    code = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).id)"
    found = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert found.stdout.decode().strip() == experiment.id


def test_what_is_said_is_read_again() -> None:
    experiment = load_experiment(
        "smoke", ["training.optimizer={kind: rmsprop, decay: 0.9}", "training.watchers=[movement]"]
    )
    assert Experiment.model_validate(experiment.model_dump(mode="json")) == experiment
    assert Experiment.model_validate_json(experiment.model_dump_json()).id == experiment.id


def test_an_optimizer_of_a_users_own_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OPTIMIZERS, "_entries", dict(OPTIMIZERS._entries))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_signed.py").write_text(BOUNCED)
    settings = ["imports=[my_signed]", "training.optimizer={kind: signed, until: 7it}"]
    experiment = load_experiment("smoke", settings)
    assert experiment.training.optimizer.resolve(100).until == 7
    with pytest.raises(InvalidExperiment, match="training.optimizer.until: '7' is not a duration"):
        load_experiment("smoke", [settings[0], "training.optimizer={kind: signed, until: '7'}"])
    with pytest.raises(InvalidExperiment, match=r"training.optimizer.learning_rate: .*less than or equal to 1; got 3"):
        load_experiment("smoke", [settings[0], "training.optimizer={kind: signed, learning_rate: 3}"])
