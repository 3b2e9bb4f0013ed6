"""A ticket outside its store: masks, initial and trained weights, and the card that says what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.utils import prune

from lth.errors import LthError
from lth.models import build_model
from lth.store.checkpoints import content_of

FORMAT = "lth ticket 1"
Which = Literal["initial", "trained"]


@dataclass(frozen=True)
class Card:
    """What a ticket is, where it came from and what it scores. Accuracies are fractions."""

    experiment_id: str
    arm: str
    draw: int
    level: int
    seed: int
    density: float
    weights_remaining: int
    weights_total: int
    weights: str
    """`early_stop` or `end`: which step of the training the trained weights are of."""
    step: int
    """That step."""
    test_accuracy: float
    """Of those weights, as the store has it."""
    test_accuracy_here: float
    """Measured again when the ticket was taken out."""
    test_examples: int
    dense_test_accuracy: float | None
    """Of the seed's dense network at the same kind of step."""
    dataset: str
    data_sha256: str
    model: str
    model_arguments: dict[str, Any]
    input_shape: tuple[int, ...]
    classes: int
    criterion: str | None
    code_version: str
    device: str
    initialisation: str = "glorot_normal"
    """How weights of this network are drawn, for what is trained anew."""
    removes: str = "weights"
    """Or `units`: whole ones."""
    rewinding: str = "init"
    """What `initial` is: see `Experiment.rewinding`."""
    output_layer: str | None = None
    """Parameter name of the output layer's weight, where it is not the last layer."""
    imports: tuple[str, ...] = ()
    """Modules that register the network."""


@dataclass(frozen=True)
class PortableTicket:
    """One seed's ticket. Weights are whole state dicts (parameters and buffers by name).

    `initial` is what the training started from, before the masks cut it (the initialisation, or the rewinding step's
    weights); in `trained` pruned weights are zero. `mean` and `scale` [channels] standardise raw pixels (0 to 255):
    (pixel - mean) * scale.
    """

    card: Card
    masks: dict[str, torch.Tensor]
    initial: dict[str, torch.Tensor]
    trained: dict[str, torch.Tensor]
    mean: torch.Tensor
    scale: torch.Tensor

    def module(self, which: Which = "initial", pruned: bool = True) -> nn.Module:
        """The network with those weights, which takes standardised images [batch, channels, height, width].

        With `pruned` its masks are held by `torch.nn.utils.prune`: whatever it is trained with, pruned weights stay
        exactly zero (parameters are then called `weight_orig`; `prune.remove` makes them plain again).
        """
        card = self.card
        module = build_model(card.model, card.input_shape, card.classes, card.model_arguments)
        known = module.state_dict().keys()  # buffers that are made anew are no part of it
        module.load_state_dict({name: tensor for name, tensor in self.weights(which).items() if name in known})
        if pruned:
            for name, mask in self.masks.items():
                owner, _, attribute = name.rpartition(".")
                prune.custom_from_mask(module.get_submodule(owner), attribute, mask.to(torch.float32))
        return module

    def weights(self, which: Which) -> Mapping[str, torch.Tensor]:
        """The state dict `initial` or `trained`."""
        if which not in ("initial", "trained"):
            raise LthError(f"a ticket has initial and trained weights, not {which!r}")
        return self.initial if which == "initial" else self.trained

    def standardise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Raw pixels [batch, channels, height, width] from 0 to 255 as what `module` takes."""
        return (pixels.to(torch.float32) - self.mean.view(1, -1, 1, 1)) * self.scale.view(1, -1, 1, 1)

    def deployed(self) -> nn.Module:
        """The trained network with its standardisation, in evaluation mode: raw pixels in, logits out."""
        return Deployed(self.module("trained", pruned=False), self.mean, self.scale).eval()


class Deployed(nn.Module):
    """Standardisation and network: pixels [batch, channels, height, width] from 0 to 255 in, logits out."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, network: nn.Module, mean: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean.detach().clone().view(1, -1, 1, 1))
        self.register_buffer("scale", scale.detach().clone().view(1, -1, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network((pixels - self.mean) * self.scale)
        return logits


def to_safetensors(ticket: PortableTicket) -> bytes:
    """The ticket as one safetensors file: `masks/`, `initial/`, `trained/`, `mean`, `scale`; the card in its header."""
    from safetensors.torch import save

    tensors = {"mean": ticket.mean, "scale": ticket.scale}
    for part, named in (("masks", ticket.masks), ("initial", ticket.initial), ("trained", ticket.trained)):
        tensors.update({f"{part}/{name}": tensor for name, tensor in named.items()})
    # One entry: with several the format does not fix their order, nor so the file's bytes.
    header = {"format": FORMAT, "card": asdict(ticket.card), "content_sha256": content_of(tensors)}
    return bytes(
        save(
            {name: tensor.contiguous().clone() for name, tensor in tensors.items()},
            {"lth": json.dumps(header, sort_keys=True)},
        )
    )


def load_ticket(path: str | Path) -> PortableTicket:
    """A ticket that `lth export --format safetensors` wrote: the file, or the folder that holds it.

    Raises LthError if there is none, or if it is something else. Nothing is unpickled.
    """
    return read_ticket(*read_file(path))


def read_file(path: str | Path) -> tuple[bytes, str]:
    """The content of a ticket's file, or of the one in that folder, and its path."""
    file = Path(path)
    file = file / "ticket.safetensors" if file.is_dir() else file
    try:
        return file.read_bytes(), str(file)
    except FileNotFoundError:
        raise LthError(f"there is no ticket at {file}; write one with lth export --format safetensors") from None
    except OSError as error:
        raise LthError(f"{file} cannot be read as a ticket: {error.strerror or error}") from None


def read_ticket(data: bytes, where: str) -> PortableTicket:
    """The ticket in the content of such a file; `where` is what errors call it."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
        header = json.loads(metadata.get("lth", "{}"))
    except (SafetensorError, ValueError) as error:
        raise LthError(f"{where} cannot be read as a ticket: {str(error).splitlines()[0]}") from None
    if header.get("format") != FORMAT:
        raise LthError(
            f"{where} is no exported ticket (its header says {header.get('format')!r}); write one with "
            "lth export --format safetensors"
        )
    try:
        content = header["card"]
        if content_of(tensors) != header["content_sha256"]:
            raise LthError(f"{where} is damaged: its tensors are not those that were written")
        card = Card(
            **{**content, "input_shape": tuple(content["input_shape"]), "imports": tuple(content.get("imports", ()))}
        )
        named = {
            part: {
                name.removeprefix(f"{part}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{part}/")
            }
            for part in ("masks", "initial", "trained")
        }
        return PortableTicket(
            card, named["masks"], named["initial"], named["trained"], tensors["mean"], tensors["scale"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LthError(f"{where} is damaged, or of another version: {type(error).__name__}: {error}") from None
