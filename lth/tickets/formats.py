"""Tickets as files: for our own tools, for plain torch, for other runtimes, sparse, and without dead units."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from lth.errors import LthError, in_one_line
from lth.tickets.card import model_card
from lth.tickets.compact import without_dead_units
from lth.tickets.portable import PortableTicket, fitted_tensors, to_safetensors


class Format(NamedTuple):
    """A file that a ticket can be written as."""

    file: str
    about: str
    write: Callable[[PortableTicket], bytes]


NAMES = {"images": "pixels", "table": "columns"}
"""What the input of an ONNX program is called, by the kind of data."""

TOLERANCE = 1e-5
"""How far the answers of an exported program may lie from the network's, relative to the largest."""


def save(ticket: PortableTicket, folder: Path, formats: tuple[str, ...] = ("safetensors",)) -> list[Path]:
    """Write a ticket in some of FORMATS into a folder, with a model card beside it; the files, the card last.

    Raises LthError for an unknown format, a file that is there already, or a folder that cannot be written.
    """
    for name in formats:
        if name not in FORMATS:
            raise LthError(f"unknown format {name!r}; choose {', '.join(FORMATS)}")
    contents = {FORMATS[name].file: FORMATS[name].write(ticket) for name in dict.fromkeys(formats)}
    about = {FORMATS[name].file: FORMATS[name].about for name in formats}
    contents["README.md"] = model_card(ticket.card, about).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        present = [name for name in contents if (folder / name).exists()]
        if present:
            raise LthError(f"{folder / present[0]} is there already; remove it, or choose another --output")
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise LthError(f"cannot write into {folder}: {error.strerror or error}; choose another --output") from None
    return [folder / name for name in contents]


def to_torch(ticket: PortableTicket) -> bytes:
    """A program of torch.export: `torch.export.load(file).module()` runs it without any of our code."""
    return _program(ticket.deployed(), ticket)


def to_dense(ticket: PortableTicket) -> bytes:
    """The same without the units that the mask has left dead: an ordinary, smaller dense network."""
    return _program(without_dead_units(ticket), ticket)


def to_onnx(ticket: PortableTicket) -> bytes:
    """The deployed network as ONNX, run once by onnxruntime and held against torch."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  what torch.onnx writes it with
    except ImportError:
        raise LthError("ONNX is not installed; pip install 'lth[onnx]'") from None
    module, raw = ticket.deployed(), raw_examples(ticket)
    name, answers = NAMES[ticket.card.data_kind], "logits" if ticket.card.target_kind == "class" else "number"
    with warnings.catch_warnings(), _one_line("ONNX"):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (raw,),
            input_names=[name],
            output_names=[answers],
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
            optimize=True,
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it refuses is said once, below
    with _one_line("ONNX"):
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        found = [session.run([answers], {name: batch.numpy()})[0] for batch in (raw, raw[-1:])]
    for batch, answer in zip((raw, raw[-1:]), found, strict=True):
        _agree(torch.from_numpy(answer), module(batch), "ONNX")
    return content


def to_csr(ticket: PortableTicket) -> bytes:
    """The trained weights as a safetensors file whose pruned tensors are sparse: for `<name>` of shape [out, ...] there
    are `<name>/crow_indices`, `<name>/col_indices` and `<name>/values` of the matrix [out, rest]
    (`torch.sparse_csr_tensor`, `scipy.sparse.csr_array`); its shape is in the header under `shapes`."""
    from safetensors.torch import save as encode

    tensors: dict[str, torch.Tensor] = fitted_tensors(ticket)
    shapes: dict[str, list[int]] = {}
    for name, tensor in ticket.trained.items():
        if name not in ticket.masks:
            tensors[name] = tensor
            continue
        shapes[name] = list(tensor.shape)
        kept = ticket.masks[name].flatten(1)
        matrix = tensor.flatten(1)
        tensors[f"{name}/crow_indices"] = torch.cat([torch.zeros(1, dtype=torch.int64), kept.sum(1).cumsum(0)])
        tensors[f"{name}/col_indices"] = kept.nonzero()[:, 1]
        tensors[f"{name}/values"] = matrix[kept]
    header = {"shapes": json.dumps(shapes), "card": json.dumps(asdict(ticket.card), sort_keys=True)}
    return bytes(encode({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, header))


@contextmanager
def _one_line(exporter: str) -> Iterator[None]:
    """What an exporter cannot do with a network, as one line."""
    try:
        yield
    except Exception as error:
        raise LthError(
            f"{exporter} does not take this network: {in_one_line(error)}; export it as safetensors or csr"
        ) from None


def _program(module: nn.Module, ticket: PortableTicket) -> bytes:
    raw, buffer = raw_examples(ticket), io.BytesIO()
    with torch.no_grad(), _one_line("torch.export"):
        exported = torch.export.export(module, (raw,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(exported, buffer)
    buffer.seek(0)
    again = torch.export.load(buffer).module()
    for batch in (raw, raw[-1:]):
        _agree(again(batch), ticket.deployed()(batch), "the exported program")
    return buffer.getvalue()


def raw_examples(ticket: PortableTicket, count: int = 3) -> torch.Tensor:
    """Made-up raw inputs, float32 [count, *raw_shape]: pixels; numbers about the training split's, a category in every
    column that has some, and a missing value wherever the network is told of one."""
    card, generator = ticket.card, torch.Generator().manual_seed(0)
    if card.data_kind == "images":
        return torch.randint(0, 256, (count, *card.raw_shape), generator=generator).float()
    rows = torch.randn(count, *card.raw_shape, generator=generator, dtype=torch.float64)
    rows = rows / ticket.fitted["scale"] + ticket.fitted["mean"]
    for position, column in enumerate(card.columns):
        if column.categories is not None:
            rows[:, position] = torch.randint(0, len(column.categories), (count,), generator=generator).double()
        if position in card.indicators:
            rows[-1, position] = torch.nan
    return rows.float()


def _agree(actual: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    actual, expected = actual.detach(), expected.detach()
    distance = float((actual - expected).abs().max() / expected.abs().max().clamp_min(1.0))
    if not distance <= TOLERANCE:
        raise LthError(f"{what} computes other answers than the network (off by {distance:.2g}); please report it")


FORMATS = {
    "safetensors": Format(
        "ticket.safetensors", "masks, initial and trained weights, for `lth.tickets.load_ticket`", to_safetensors
    ),
    "torch": Format(
        "ticket.pt2", "the trained network, for `torch.export.load(...).module()` without our code", to_torch
    ),
    "onnx": Format("ticket.onnx", "the trained network for ONNX runtimes", to_onnx),
    "csr": Format("ticket-csr.safetensors", "the trained weights, pruned tensors as sparse CSR matrices", to_csr),
    "dense": Format("ticket-dense.pt2", "as ticket.pt2, without the units that pruning has left dead", to_dense),
}
"""By name. The networks take raw examples (see `PortableTicket.standardise`) and give what the card says."""
