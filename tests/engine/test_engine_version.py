"""Known bits: whoever changes one raises ENGINE_VERSION, so that no store mixes the two under one id.

If this fails, either a bit has changed by mistake, or on purpose: then raise ENGINE_VERSION in lth/version.py, put the
digests that it prints here, and say so in CHANGELOG.md.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from lth.experiment import load_experiment
from lth.models import MODELS, register_model
from lth.processor import PINNED, instructions
from lth.store import Store, content_hash, result_columns
from lth.sweep.here import run_here
from lth.version import ENGINE_VERSION

KNOWN_FOR = ("1", "2.13.0")
"""The engine and the torch that KNOWN holds for."""

SHORT = ["training.duration=12it", "training.evaluate_every=6it", "pruning.levels=1"]
CONVOLUTIONS = ["dataset.crop_padding=1", "dataset.flip=true", "dataset.standardise=channel"]
CASES = {
    "sparse rows, adam": ["pruning.fraction=0.8", "pruning.levels=2"],
    "sgd, late": [
        "training.optimizer={kind: sgd, learning_rate: 0.05, momentum: 0.9, nesterov: true, weight_decay: 0.0005}",
        "training.schedule={kind: step, milestones: [20it], warmup: 5it}",
        "rewinding={kind: step, step: 15it}",
    ],
    "adamw": ["training.optimizer={kind: adamw, weight_decay: 0.01}", "pruning.criterion=movement"],
    "controls": ["arms=[ticket, reinit, reinit_sign, random_mask, shuffled_mask, shuffled_weights]"],
    "convolutions": ["model={name: conv2}", *SHORT, *CONVOLUTIONS, "arms=[ticket]"],
    "batch norm": [
        "model={name: resnet, arguments: {depth: 8, width: 4}, initialisation: kaiming_normal}",
        *(*SHORT, *CONVOLUTIONS, "pruning.scope=global", "pruning.fraction=0.3", "arms=[ticket]"),
    ],
    "own weights, dropout": ["model={name: known_bits, initialisation: own}", "arms=[ticket]"],
    "bf16": ["training.precision=bf16", "arms=[ticket]"],
    "at initialisation": ["pruning.when=at_initialisation", "pruning.criterion=synflow", "arms=[ticket]"],
    "units": [
        "model={name: mlp, arguments: {hidden: [16, 12]}}",
        "pruning={remove: units, criterion: l2, fraction: 0.3, levels: 2}",
        "arms=[ticket]",
    ],
}
KNOWN = {
    "sparse rows, adam": "9b142e13b670",
    "sgd, late": "469638837bc5",
    "adamw": "f5e0066bea92",
    "controls": "1b3bf8f6329f",
    "convolutions": "a4c8346d2401",
    "batch norm": "a22003ff88c1",
    "own weights, dropout": "90a86903e8f0",
    "bf16": "93284850fb05",
    "at initialisation": "010134a2e3aa",
    "units": "468514e05bdc",
}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """For these tests alone."""
    monkeypatch.setattr(MODELS, "_entries", dict(MODELS._entries))
    register_model("known_bits", "for the test of known bits")(known_bits)


def known_bits(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """A dense layer, dropout, and a layer of uniform and normal weights."""
    last = nn.Linear(24, classes)
    nn.init.normal_(last.weight, std=0.1)
    features = torch.Size(input_shape).numel()
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 24), nn.GELU(), nn.Dropout(0.3), last)


def digest_of(name: str, folder: Path) -> str:
    """12 hex digits of all that a sweep of two seeds stores but for the circumstances."""
    experiment = load_experiment("smoke", CASES[name])
    store = Store(folder)
    run_here(experiment, [0, 3], store, experiment.dataset.load(), device="cpu", threads=1)
    committed = store.committed(experiment.id)
    tables = [("levels", committed.rows)]
    tables += [(kind, store.read_table(committed, kind)[0]) for kind in ("metrics", "masks")]
    content = "".join(content_hash(table, result_columns(kind, table)) for kind, table in tables)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


@pytest.mark.skipif(instructions() != PINNED, reason="a processor without AVX2 has bits of its own")
@pytest.mark.parametrize("name", CASES)
def test_no_bit_changes_without_a_new_engine_version(name: str, tmp_path: Path) -> None:
    assert (ENGINE_VERSION, str(torch.__version__).partition("+")[0]) == KNOWN_FOR, (
        "digests of these are to be put here"
    )
    assert digest_of(name, tmp_path) == KNOWN[name], "bits have changed: raise ENGINE_VERSION, see above"
