"""Every network that there is, taken all the way: inspected, trained for two steps, pruned, exported, loaded again.

All of torchvision's classifiers and all built-in networks, on made-up images of the smallest size that each takes, in
batches of two. Each runs in a process of its own, one at a time; what it does not do is a reason in the table.

Run: python benchmarks/networks.py [--only NAME ...] [--results FILE]. Writes docs/networks.md; results that FILE holds
already are kept. `--one NAME` tries one network in this process and prints its row as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from lth.data import ImageData, register_dataset
from lth.data.examples import DataSet
from lth.engine.network import Network
from lth.errors import InvalidExperiment, in_one_line
from lth.experiment import Experiment, load_experiment
from lth.models import model_names
from lth.store import Store
from lth.streams import stream
from lth.sweep.extraction import collect
from lth.sweep.here import run_here
from lth.sweep.inspecting import inspected
from lth.sweep.networks import DataFacts, network_of
from lth.tickets import FORMATS, PortableTicket, load_ticket, save
from lth.tickets.formats import NAMES, raw_examples
from lth.torchvision_import import import_torchvision

ROOT = Path(__file__).parents[1]
SIDES = (32, 64, 96, 224, 299)
"""Sizes of images, of which a network gets the first that it takes."""

ARGUMENTS: dict[str, dict[str, Any]] = {"resnet": {"depth": 8}}
Row = dict[str, Any]


def images(side: int) -> Callable[[Path], ImageData]:
    """Noise: eight images to train and validate on, four to test on."""

    def load(_root: Path) -> ImageData:
        generator = stream(0, "noise", side)
        pixels = torch.randint(0, 256, (12, 3, side, side), dtype=torch.uint8, generator=generator)
        labels = torch.arange(12) % 4
        return ImageData(f"noise-{side}", pixels[:8], labels[:8], pixels[8:], labels[8:], 4)

    return load


for each in SIDES:
    register_dataset(f"noise-{each}", f"12 images of noise, 3x{each}x{each}")(images(each))


def names() -> list[str]:
    """Built-in networks, then torchvision's classifiers."""
    models = import_torchvision().models
    built_in = [name for name in model_names() if name != "torchvision" and ":" not in name]
    return [*built_in, *(f"torchvision {name}" for name in models.list_models(module=models))]


def experiment_of(name: str, side: int) -> Experiment:
    """Two steps on two images each, half of the weights pruned once."""
    model, _, architecture = name.partition(" ")
    arguments: dict[str, Any] = {"architecture": architecture} if architecture else ARGUMENTS.get(model, {})
    if architecture.startswith("maxvit"):
        arguments["input_size"] = [side, side]
    return load_experiment(
        "smoke",
        [
            "name=network",
            f"dataset={{name: noise-{side}, validation: 4}}",
            f"model={{name: {model}, initialisation: own, arguments: {json.dumps(arguments)}}}",
            "training.optimizer={kind: sgd, learning_rate: 0.00001}",
            "training.batch_size=2",
            "training.duration=2it",
            "training.evaluate_every=2it",
            "pruning={fraction: 0.5, levels: 1}",
            "arms=[ticket]",
        ],
    )


def try_network(name: str, folder: Path, formats: Iterable[str] = FORMATS) -> Row:
    """One row: what of the way it went, and why not further."""
    row: Row = {"name": name, "side": None, "weights": None, "prunable": None, "trained": False, "formats": {}}
    begun = time.perf_counter()
    try:
        for side in SIDES:
            if side <= (row["side"] or 0):
                continue
            sweep, data = _smallest(name, row, side)
            store = Store(folder / "store")
            done = run_here(sweep, (0,), store, data)
            if not any(one.diverged for one in done.values()):
                break
        else:
            raise InvalidExperiment("its training diverged")
        row["trained"] = True
        ticket = collect(store, sweep.id, 0, 1, weights="end")
        for form in formats:
            row["formats"][form] = _there_and_back(ticket, form, folder / form)
    except Exception as error:
        row["refused"] = in_one_line(error).removeprefix("InvalidExperiment: ")
    return {**row, "seconds": round(time.perf_counter() - begun, 1)}


def _smallest(name: str, row: Row, least: int) -> tuple[Experiment, DataSet]:
    """The experiment on the smallest images of at least that size that the network takes. Raises what it says of the
    largest."""
    for side in (side for side in SIDES if side >= least):
        row["side"] = side
        try:
            sweep = experiment_of(name, side)
            data = sweep.dataset.load()
            inspected(sweep, data)
        except InvalidExperiment:
            if side == SIDES[-1]:
                raise
            continue
        found = network_of(sweep, DataFacts.of(data))
        row["weights"] = _weights(found.network)
        row["prunable"] = sum(tensor.size for tensor in found.network.prunable)
        return sweep, data
    raise AssertionError


def _weights(network: Network) -> int:
    return sum(slot.size for slot in network.layout.slots)


def _there_and_back(ticket: PortableTicket, form: str, folder: Path) -> str:
    """`ok`, or why a ticket cannot be written in a format, or is another one when it is read."""
    try:
        file = next(path for path in save(ticket, folder, (form,)) if path.name == FORMATS[form].file)
        raw = raw_examples(ticket)
        with torch.no_grad():
            expected = ticket.deployed()(raw)
            answer = READERS[form](file, ticket, raw)
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)
    except Exception as error:
        return in_one_line(error)
    return "ok"


def _read_ours(file: Path, ticket: PortableTicket, raw: torch.Tensor) -> torch.Tensor:
    again = load_ticket(file)
    again.module("initial")
    kept = again.module("trained")
    for name, mask in again.masks.items():
        owner, _, attribute = name.rpartition(".")
        assert not kept.get_submodule(owner).get_parameter(f"{attribute}_orig")[~mask].any(), f"{name} is not pruned"
    answer: torch.Tensor = again.deployed()(raw)
    return answer


def _read_program(file: Path, ticket: PortableTicket, raw: torch.Tensor) -> torch.Tensor:
    answer: torch.Tensor = torch.export.load(file).module()(raw)
    return answer


def _read_onnx(file: Path, ticket: PortableTicket, raw: torch.Tensor) -> torch.Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {NAMES["images"]: raw.numpy()})[0])


def _read_csr(file: Path, ticket: PortableTicket, raw: torch.Tensor) -> torch.Tensor:
    from safetensors import safe_open

    with safe_open(file, "pt") as held:
        shapes = json.loads(held.metadata()["shapes"])
        found = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118  no mapping
    for name, shape in shapes.items():
        parts = [found.pop(f"{name}/{part}") for part in ("crow_indices", "col_indices", "values")]
        size = (shape[0], torch.Size(shape[1:]).numel())
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        matrix = torch.sparse_csr_tensor(parts[0], parts[1], parts[2], size, check_invariants=True)
        found[name] = matrix.to_dense().view(shape)
    module = ticket.module("trained", pruned=False)
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.zero_()
    state = module.state_dict()
    state.update({name: found[name] for name in state})
    module.load_state_dict(state)
    answer: torch.Tensor = ticket.deployed(module)(raw)
    return answer


READERS = {
    "safetensors": _read_ours,
    "torch": _read_program,
    "onnx": _read_onnx,
    "csr": _read_csr,
    "dense": _read_program,
}


def page(rows: Iterable[Row], untried: Sequence[str] = ()) -> str:
    """docs/networks.md."""
    rows = list(rows)
    whole = [row for row in rows if _whole(row)]
    refused = [row for row in rows if not row["trained"]]
    lines = [
        "# Networks that were tried",
        "",
        "Every built-in network and every classifier of torchvision, untrained, on noise of the smallest size that it",
        "takes: inspected, trained for two steps in batches of two, half of its weights pruned, exported in every",
        "format, each file read again and held against the network. Written by `make networks`; `.` is done, a number",
        "a reason below the table.",
        "",
        f"**{len(rows)} tried, {len(whole)} whole, {len(rows) - len(whole) - len(refused)} in part, "
        f"{len(refused)} refused before they trained.**",
        "",
        "| network | image | weights | prunable | trained, pruned | " + " | ".join(FORMATS) + " |",
        "|---|---:|---:|---:|" + " :-: |" * (1 + len(FORMATS)),
    ]
    reasons: dict[str, int] = {}

    def mark(reason: str) -> str:
        return f"{reasons.setdefault(_short(reason), len(reasons) + 1)}"

    for row in rows:
        weights = "" if row["weights"] is None else f"{row['weights']:,}"
        prunable = "" if row["weights"] is None else f"{row['prunable'] / row['weights']:.1%}"
        trained = "." if row["trained"] else mark(row["refused"])
        rest = [_cell(row, form, mark) for form in FORMATS]
        lines.append("| " + " | ".join([row["name"], str(row["side"] or ""), weights, prunable, trained, *rest]) + " |")
    if untried:
        lines += ["", f"Not tried yet: {', '.join(untried)}."]
    lines += ["", *(f"{number}. {reason}" for reason, number in reasons.items())]
    return "\n".join(lines).rstrip() + "\n"


def _cell(row: Row, form: str, mark: Callable[[str], str]) -> str:
    said = row["formats"].get(form)
    if said is None:
        return mark(row["refused"]) if row["trained"] else ""
    return "." if said == "ok" else mark(said)


def _short(reason: str) -> str:
    return reason if len(reason) < 300 else reason[:300] + " …"


def _whole(row: Row) -> bool:
    return bool(row["trained"] and set(row["formats"]) == set(FORMATS) and set(row["formats"].values()) == {"ok"})


def _in_a_process(name: str, seconds: int) -> Row:
    command = [sys.executable, str(Path(__file__)), "--one", name]
    blank: Row = {"name": name, "side": None, "weights": None, "prunable": None, "trained": False, "formats": {}}
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {**blank, "refused": f"took longer than {seconds} s here"}
    if ended.returncode:
        said = (ended.stderr.strip().splitlines() or ["nothing"])[-1]
        return {**blank, "refused": f"its process ended with {ended.returncode}: {said}"}
    row: Row = json.loads(ended.stdout.splitlines()[-1])
    return row


def _known_page(wanted: Sequence[str], known: dict[str, Row]) -> str:
    return page([known[name] for name in wanted if name in known], [name for name in wanted if name not in known])


def main() -> None:
    """Try them, one after another, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", help="try this network here and print its row")
    parser.add_argument("--only", nargs="*", help="networks to try; all if not given")
    parser.add_argument("--results", type=Path, help="a file of rows, one JSON a line, that is gone on with")
    parser.add_argument("--seconds", type=int, default=1800, help="the most that one network may take")
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(try_network(options.one, Path(folder))))
        return
    wanted, results = names(), options.results or Path(tempfile.mkdtemp()) / "networks.jsonl"
    known = {}
    if results.exists():
        known = {row["name"]: row for row in map(json.loads, results.read_text().splitlines())}
    for name in options.only or wanted:
        if name not in known:
            known[name] = _in_a_process(name, options.seconds)
            with results.open("a") as file:
                file.write(json.dumps(known[name]) + os.linesep)
            row = known[name]
            said = "whole" if _whole(row) else row.get("refused") or row["formats"]
            print(f"{name}: {said} ({row.get('seconds')} s)", flush=True)
    (ROOT / "docs" / "networks.md").write_text(_known_page(wanted, known))


if __name__ == "__main__":
    main()
