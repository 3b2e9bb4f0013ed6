"""What people really type: every slip is answered with what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from lth.errors import InvalidExperiment
from lth.experiment import load_experiment


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("lr=0.1", "lr: no such field; did you mean training.optimizer.learning_rate?"),
        ("training.lr=0.1", "training.lr: no such field; did you mean training.optimizer.learning_rate?"),
        ("training.optimizer.lr=0.1", "did you mean training.optimizer.learning_rate?"),
        ("training.learning_rate=0.1", "did you mean training.optimizer.learning_rate?"),
        ("epochs=10", "epochs: no such field; did you mean training.duration: 10ep?"),
        ("training.steps=500", "did you mean training.duration: 500it?"),
        ("training.duration=10", "10 is not a duration; write steps as '50000it'"),
        ("batch=32", "did you mean training.batch_size?"),
        ("training.momentum=0.9", "did you mean training.optimizer.momentum?"),
        ("optimizer={kind: adamw}", "optimizer: no such field; did you mean training.optimizer?"),
        ("training.optimizer=adamw", "must be a group of fields; got 'adamw'; write {kind: adamw}"),
        ("training.optimizer.name=sgd", "did you mean training.optimizer.kind?"),
        ("training.optimizer.kind=admaw", "kind is one of adam, adamw, rmsprop, sgd; got 'admaw'"),
        ("training.optimizer.kind=[1]", "kind is one of adam, adamw, rmsprop, sgd; got [1]"),
        ("model=resnet20", "model: must be a group of fields; got 'resnet20'; write {name: resnet20}"),
        ("model.kind=mlp", "did you mean model.name?"),
        ("model.hidden=[3]", "did you mean model.arguments.hidden?"),
        ("hidden=[3]", "did you mean model.arguments.hidden?"),
        ("dataset=mnist", "write {name: mnist}"),
        ("rewinding=step", "write {kind: step}"),
        ("scheduler=cosine", "did you mean training.schedule?"),
        ("criterion=snip", "did you mean pruning.criterion?"),
        ("pruning.sparsity=0.5", "did you mean pruning.fraction?"),
        ("levels=3", "did you mean pruning.levels?"),
        ("seeds=0-9", "seeds is no part of an experiment: give it to the command, --seeds 0-9"),
        ("seed=3", "--seeds 3"),
        ("device=cuda", "--device cuda"),
        ("cohort_size=4", "--cohort-size 4"),
        ("training.watchers=[{step: 3}]", "training.watchers.0: kind is missing; give one of movement"),
        ("training.watchers=[early_stop]", "'early_stop' is always there by itself: leave it out"),
        ("training.watchers=[{kind: rewind_point, step: 3}]", "say with rewinding.step where tickets begin"),
        ("margin=5", "a fraction above 0 and below 1, e.g. 0.005 for half a percentage point; got 5"),
        ("model.arguments.x=.nan", "model.arguments.x: input should be a finite number; got nan"),
        ("pruning.levels=1:30", "got '1:30'"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(setting: str, wanted: str) -> None:
    with pytest.raises(InvalidExperiment) as caught:
        load_experiment("digits", [setting])
    assert wanted in str(caught.value) and "\n" not in str(caught.value)


def test_free_form_parts_are_yaml_1_2_and_typed_fields_are_as_before(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    text = """
preset: digits
x-short: &short {duration: 20it, evaluate_every: 10it}
training: {<<: *short, duration: 30it, batch_size: 1_000}
dataset: {flip: yes}
model: {arguments: {hidden: [5], eps: 1e-5, word: no, octal: 0o17, when: 2020-01-02, rate: 1:30}}
"""
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        file.write_text(text.replace("\n", "\r\n"), encoding=encoding)
        found = load_experiment(str(file))
        assert found.model.arguments == {
            "hidden": [5], "eps": 1e-5, "word": "no", "octal": 15, "when": "2020-01-02", "rate": "1:30",
        }  # fmt: skip
        assert (found.training.duration, found.training.evaluate_every) == ("30it", "10it")
        assert (found.training.batch_size, found.dataset.flip) == (1000, True)
    said = [f"model.arguments.eps={number}" for number in ("1e-5", "0.00001", "1.0e-5")]
    assert len({load_experiment("digits", [setting]).id for setting in said}) == 1
