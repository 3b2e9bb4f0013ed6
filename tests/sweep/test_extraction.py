"""A ticket out of a store: the same weights, the same score, in every format; and ready to be trained again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

import lth
from lth.data import load_dataset
from lth.errors import LthError
from lth.experiment import Experiment, load_experiment
from lth.store import Store
from lth.sweep.extraction import collect
from lth.sweep.here import run_here
from lth.tickets import FORMATS, PortableTicket, save

LEVEL, SEED = 4, 1


def experiment(*settings: str) -> Experiment:
    return load_experiment("smoke", ["pruning.fraction=0.5", f"pruning.levels={LEVEL}", *settings])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    place = Store(tmp_path_factory.mktemp("store"))
    run_here(experiment(), (0, 1, 2), place, load_dataset("digits"))
    return place


@pytest.fixture(scope="module")
def ticket(store: Store) -> PortableTicket:
    return collect(store, experiment().id, SEED, LEVEL)


@pytest.fixture(scope="module")
def folder(ticket: PortableTicket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("taken") / "ticket"
    save(ticket, place, tuple(FORMATS))
    return place


def logits(ticket: PortableTicket) -> torch.Tensor:
    with torch.no_grad():
        return ticket.deployed()(load_dataset("digits").test_inputs.float())


def row_of(store: Store, **place: object) -> dict:
    rows = [
        row
        for row in store.committed(experiment().id).rows.to_pylist()
        if all(row[name] == value for name, value in place.items())
    ]
    assert len(rows) == 1
    return rows[0]


@pytest.mark.parametrize(
    ("arm", "level", "weights"),
    [
        ("ticket", LEVEL, "early_stop"),
        ("ticket", LEVEL, "end"),
        ("ticket", 0, "end"),
        ("reinit", 2, "early_stop"),
        ("random_mask", 1, "end"),
    ],
)
def test_it_scores_what_the_store_says(store: Store, arm: str, level: int, weights) -> None:  # type: ignore[no-untyped-def]
    found = collect(store, experiment().id, SEED, level, arm, weights=weights)
    row = row_of(store, arm=arm, level=level, seed=SEED)
    said = row["test_accuracy_at_early_stop" if weights == "early_stop" else "test_accuracy"]
    right = (logits(found).argmax(1) == load_dataset("digits").test_labels).double().mean()
    assert found.card.test_score == found.card.test_score_here == said == pytest.approx(float(right))
    assert (found.card.density, found.card.weights_remaining) == (row["density"], row["weights_remaining"])
    assert sum(int(mask.sum()) for mask in found.masks.values()) == row["weights_remaining"]
    assert all((found.trained[name][~mask] == 0).all() for name, mask in found.masks.items())


def test_initial_weights_are_the_seeds_own(ticket: PortableTicket, store: Store) -> None:
    dense = collect(store, experiment().id, SEED, 0)
    assert all(torch.equal(ticket.initial[name], dense.initial[name]) for name in dense.initial)
    other = collect(store, experiment().id, SEED, LEVEL, "reinit")
    assert not torch.equal(
        ticket.initial["1.weight"] if "1.weight" in ticket.initial else next(iter(ticket.initial.values())),
        next(iter(other.initial.values())),
    )


def test_late_rewinding_starts_from_its_step(tmp_path: Path) -> None:
    late, place = experiment("rewinding={kind: step, step: 20it}"), Store(tmp_path)
    run_here(late, (0,), place, load_dataset("digits"))
    found, dense = (collect(place, late.id, 0, level) for level in (1, 0))
    assert not any(torch.equal(found.initial[name], dense.initial[name]) for name in found.masks)
    assert found.card.test_score_here == found.card.test_score


def test_a_round_trip_loses_nothing(ticket: PortableTicket, folder: Path) -> None:
    for path in (folder, folder / "ticket.safetensors"):
        again = lth.load_ticket(path)
        assert again.card == ticket.card
        for part in ("masks", "initial", "trained"):
            mine, its = getattr(ticket, part), getattr(again, part)
            assert mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)
        assert torch.equal(logits(again), logits(ticket))


def test_a_damaged_file_is_refused_and_equal_tickets_are_equal_files(ticket: PortableTicket, tmp_path: Path) -> None:
    from lth.tickets.portable import to_safetensors

    data = to_safetensors(ticket)
    assert data == to_safetensors(ticket)
    flipped = bytearray(data)
    flipped[-100] ^= 1
    (tmp_path / "ticket.safetensors").write_bytes(flipped)
    with pytest.raises(LthError, match="is damaged: its tensors are not those that were written"):
        lth.load_ticket(tmp_path)


def test_a_loaded_ticket_trains_and_stays_sparse(folder: Path) -> None:
    found, data = lth.load_ticket(folder), load_dataset("digits")
    module = found.module("initial").train()
    images, labels = found.standardise(data.train_inputs), data.train_labels
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01, weight_decay=0.1)
    first = last = float("nan")
    for step in range(60):
        loss = nn.functional.cross_entropy(module(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = (float(loss.detach()), last) if step == 0 else (first, float(loss.detach()))
    assert last < 0.8 * first
    module(images[:1])
    layers = dict(module.named_modules())
    for name, mask in found.masks.items():
        weight = layers[name.rpartition(".")[0]].weight
        assert (weight[~mask] == 0).all() and (weight[mask] != 0).all()


def test_the_torch_program_needs_nothing_of_ours(ticket: PortableTicket, folder: Path) -> None:
    data = load_dataset("digits")
    np.save(folder.parent / "pixels.npy", data.test_inputs.float().numpy())
    code = (
        "import sys, numpy, torch; m = torch.export.load('ticket/ticket.pt2').module(); "
        "p = torch.from_numpy(numpy.load('pixels.npy')); numpy.save('logits.npy', m(p).detach().numpy()); "
        "assert not [name for name in sys.modules if name.split('.')[0] in ('lth', 'flows', 'tasks')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder.parent, timeout=120)
    np.testing.assert_allclose(np.load(folder.parent / "logits.npy"), logits(ticket).numpy(), atol=1e-5)


def test_onnx_computes_the_same(ticket: PortableTicket, folder: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "ticket.onnx", providers=["CPUExecutionProvider"])
    pixels = load_dataset("digits").test_inputs.float().numpy()
    for batch in (pixels, pixels[:1]):
        found = session.run(None, {"pixels": batch})[0]
        np.testing.assert_allclose(found, logits(ticket).numpy()[: len(batch)], atol=1e-5)


def test_csr_holds_the_trained_weights(ticket: PortableTicket, folder: Path) -> None:
    from scipy.sparse import csr_array

    with safe_open(str(folder / "ticket-csr.safetensors"), framework="np") as file:
        shapes = json.loads(file.metadata()["shapes"])
        assert set(shapes) == set(ticket.masks)
        for name, shape in shapes.items():
            matrix = csr_array(
                tuple(file.get_tensor(f"{name}/{part}") for part in ("values", "col_indices", "crow_indices")),
                shape=shape,
            )
            assert matrix.nnz == int(ticket.masks[name].sum())
            np.testing.assert_array_equal(matrix.toarray(), ticket.trained[name].numpy())
        rest = set(ticket.trained) - set(shapes)
        assert rest and all(np.array_equal(file.get_tensor(name), ticket.trained[name].numpy()) for name in rest)


def test_the_dense_program_is_smaller_and_the_same_function(ticket: PortableTicket, folder: Path) -> None:
    module = torch.export.load(folder / "ticket-dense.pt2").module()
    whole = sum(tensor.numel() for tensor in ticket.trained.values())
    assert sum(parameter.numel() for parameter in module.parameters()) < whole
    pixels = load_dataset("digits").test_inputs.float()
    torch.testing.assert_close(module(pixels).detach(), logits(ticket), atol=1e-5, rtol=1e-5)


def test_the_card_says_what_it_is(ticket: PortableTicket, folder: Path) -> None:
    text = (folder / "README.md").read_text()
    card = ticket.card
    assert f"ticket of level {LEVEL}, seed {SEED}" in text and f"**{100 * card.test_score:.2f}%** of 360" in text
    assert card.experiment_id in text and card.data_sha256 in text and "float32 [batch, 1, 8, 8]" in text
    assert all(f"`{FORMATS[name].file}`" in text for name in FORMATS)


def test_what_cannot_be_taken_is_one_line(store: Store, tmp_path: Path) -> None:
    identifier = experiment().id
    with pytest.raises(LthError, match=r"has no ticket of seed 7 at level 1 in .*; it has seeds 0 to 2 and"):
        collect(store, identifier, 7, 1)
    with pytest.raises(LthError, match="it has the arms random_mask, reinit, ticket"):
        collect(store, identifier, 0, 1, "magic")
    wild = experiment("training.optimizer={kind: sgd, learning_rate: 100, weight_decay: 1}")
    place = Store(tmp_path / "wild")
    run_here(wild, (0,), place, load_dataset("digits"))
    with pytest.raises(LthError, match="diverged: there is nothing to take away"):
        collect(place, wild.id, 0, 0)


def test_files_that_are_no_tickets_are_one_line(folder: Path, ticket: PortableTicket, tmp_path: Path) -> None:
    with pytest.raises(LthError, match="there is no ticket at"):
        lth.load_ticket(tmp_path / "nothing")
    with pytest.raises(LthError, match="is no exported ticket"):
        lth.load_ticket(folder / "ticket-csr.safetensors")
    (tmp_path / "ticket.safetensors").write_bytes((folder / "ticket.safetensors").read_bytes()[:-20])
    with pytest.raises(LthError, match="cannot be read as a ticket"):
        lth.load_ticket(tmp_path)
    with pytest.raises(LthError, match="unknown format 'pickle'; choose safetensors, torch"):
        save(ticket, tmp_path / "new", ("pickle",))
    with pytest.raises(LthError, match="is there already"):
        save(ticket, folder)
