"""A ticket outside its store: masks, initial and trained weights, and the card that says what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn
from torch.nn.utils import prune

from lth.data.examples import Column, Transform
from lth.data.image_transform import ImageTransform
from lth.data.table_transform import TableTransform
from lth.errors import InvalidExperiment, LthError
from lth.models import MODELS, build_model
from lth.models.calling import first_names
from lth.models.strangers import check_network
from lth.store.checkpoints import content_of
from lth.trust import require_trust

FORMAT = "lth ticket 1"
Which = Literal["initial", "trained"]


@dataclass(frozen=True)
class Card:
    """What a ticket is, where it came from and what it scores."""

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
    test_score: float
    """Of those weights, as the store has it."""
    test_score_here: float
    """Measured again when the ticket was taken out."""
    test_examples: int
    dense_test_score: float | None
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
    score: str = "accuracy"
    """What it is judged by: a name in `lth.objectives.SCORES`."""
    data_kind: str = "images"
    """Or `table`: what raw inputs are."""
    columns: tuple[Column, ...] = ()
    """Of a table, the columns of its raw inputs."""
    indicators: tuple[int, ...] = ()
    """Columns whose missing values the network is told."""
    target_kind: str = "class"
    """Or `number`, given in the units of the target."""

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Of one raw example: (channels, height, width) of an image, (columns,) of a table."""
        return (len(self.columns),) if self.data_kind == "table" else self.input_shape

    def transform(self) -> Transform:
        """What its network takes, of raw inputs."""
        if self.data_kind == "table":
            return TableTransform(self.columns, self.indicators, self.target_kind)
        return ImageTransform(self.input_shape[0])


@dataclass(frozen=True, repr=False)
class PortableTicket:
    """One seed's ticket. Weights are whole state dicts (parameters and buffers by name).

    `initial` is what the training started from, before the masks cut it (the initialisation, or the rewinding step's
    weights); in `trained` pruned weights are zero. `fitted` is what the transform of the data has measured on the
    seed's training split: of images `mean` and `scale` [channels], (pixel - mean) * scale of pixels from 0 to 255.
    """

    card: Card
    masks: dict[str, torch.Tensor]
    initial: dict[str, torch.Tensor]
    trained: dict[str, torch.Tensor]
    fitted: dict[str, torch.Tensor]

    def __repr__(self) -> str:
        kept, total = (sum(int(count(mask)) for mask in self.masks.values()) for count in (torch.sum, torch.numel))
        return f"<ticket of {self.card.experiment_id}: {kept:,} of {total:,} weights>"

    def module(self, which: Which = "initial", pruned: bool = True, trust: bool = False) -> nn.Module:
        """The network with those weights, which takes standardised images [batch, channels, height, width].

        A registered network is built, and one that the user of this process has named himself. For any other the card
        names code to import, which is done only with `trust`; else it raises Untrusted.

        With `pruned` its masks are held by `torch.nn.utils.prune`: whatever it is trained with, pruned weights stay
        exactly zero, wherever the network uses them (parameters are then called `weight_orig`; `prune.remove` makes
        them plain again).
        """
        card = self.card
        check_card(f"the ticket of {card.experiment_id}", self, trust)
        module = build_model(card.model, card.input_shape, card.classes, card.model_arguments)
        weights, names = self.weights(which), first_names(module)
        state = module.state_dict()  # without buffers that are made anew; it knows the versions of its layers
        kept = {name: weights[names.get(name, name)] for name in state if names.get(name, name) in weights}
        for name in [name for name in state if name not in kept]:
            del state[name]
        for name, tensor in kept.items():
            if tensor.dtype != state[name].dtype:
                raise LthError(
                    f"the ticket of {card.experiment_id} does not fit its network: {name} is {tensor.dtype} and not "
                    f"{state[name].dtype}"
                )
        state.update(kept)
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).splitlines()[1:2]).strip()
            raise LthError(f"the ticket of {card.experiment_id} does not fit its network: {reason}") from None
        if pruned:
            places = [
                (layer, key, self.masks[names[f"{path}.{key}".lstrip(".")]])
                for path, layer in module.named_modules()
                for key in list(layer._parameters)
                if names.get(f"{path}.{key}".lstrip(".")) in self.masks
            ]
            for layer, key, mask in places:
                prune.custom_from_mask(layer, key, mask.to(torch.float32))
            module.register_forward_pre_hook(_apply_masks)
        return module

    def weights(self, which: Which) -> Mapping[str, torch.Tensor]:
        """The state dict `initial` or `trained`."""
        if which not in ("initial", "trained"):
            raise LthError(f"a ticket has initial and trained weights, not {which!r}")
        return self.initial if which == "initial" else self.trained

    def standardise(self, raw: torch.Tensor) -> torch.Tensor:
        """Raw inputs as what `module` takes: pixels [batch, channels, height, width] from 0 to 255; of a table rows
        [batch, columns], NaN where a value is missing, categories as their places in the card's `columns`."""
        inputs: torch.Tensor = self.card.transform().module(self.fitted)[0](raw.to(torch.float32))
        return inputs

    def deployed(self, network: nn.Module | None = None) -> nn.Module:
        """The trained network, or another that computes the same, from raw inputs to what its objective gives: logits,
        or a number in the units of the target. In evaluation mode."""
        return Deployed(
            network or self.module("trained", pruned=False), *self.card.transform().module(self.fitted)
        ).eval()


def _apply_masks(module: nn.Module, _inputs: object) -> None:
    """Mask before anything runs: a layer whose weight is used without calling it would never do so itself."""
    for layer in module.modules():
        for hook in list(layer._forward_pre_hooks.values()):
            if isinstance(hook, prune.BasePruningMethod):
                hook(layer, None)


class Deployed(nn.Module):
    """A network between what makes inputs of raw examples and what makes answers of its outputs."""

    def __init__(self, network: nn.Module, inputs: nn.Module, outputs: nn.Module) -> None:
        super().__init__()
        self.inputs = inputs
        self.network = network
        self.outputs = outputs

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        answers: torch.Tensor = self.outputs(self.network(self.inputs(raw)))
        return answers


_CARD = TypeAdapter(Card)
"""Its fields are of the types that they say: a card may come from anybody."""


def check_card(what: str, ticket: PortableTicket, trust: bool = False) -> None:
    """Refuse to build the network that a ticket's card names where that would run its author's code (Untrusted), unless
    he is trusted, and one of other arguments or of another size than its weights have (InvalidExperiment)."""
    card = ticket.card
    require_trust(what, () if ":" in card.model or card.model in MODELS else card.imports, card.model, trust)
    if card.model in MODELS:
        # Buffers that are made anew are no part of the file; none is larger than the weights.
        most = 2 * sum(tensor.numel() for tensor in ticket.initial.values()) + 100_000
        check_network(what, card.model, card.input_shape, card.classes, card.model_arguments, most)
    elif ":" not in card.model:
        raise InvalidExperiment(
            f"{what} is of a network {card.model!r}, which nothing registers here; import the module that does"
        )


def fitted_tensors(ticket: PortableTicket) -> dict[str, torch.Tensor]:
    """What the transform has measured, by the names that files give it: those of images are the old ones."""
    prefix = "" if ticket.card.data_kind == "images" else "fitted/"
    return {prefix + name: tensor for name, tensor in ticket.fitted.items()}


def to_safetensors(ticket: PortableTicket) -> bytes:
    """The ticket as one safetensors file: `masks/`, `initial/`, `trained/`, and `mean` and `scale` of images or
    `fitted/` of a table; the card in its header."""
    from safetensors.torch import save

    tensors = fitted_tensors(ticket)
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


def load_ticket(path: str | Path, trust: bool = False) -> PortableTicket:
    """A ticket that `lth export --format safetensors` wrote: the file, or the folder that holds it.

    Raises LthError if there is none, or if it is something else. Nothing is unpickled, and nothing that its card names
    is imported; with `trust` that is done at once, so that the network can be built (see `PortableTicket.module`).
    """
    ticket = read_ticket(*read_file(path))
    if trust:
        check_card(str(path), ticket, trust)
    return ticket


def read_file(path: str | Path) -> tuple[bytes, str]:
    """The content of a ticket's file, or of the one in that folder, and its path."""
    file = Path(path)
    file = file / "ticket.safetensors" if file.is_dir() else file
    try:
        if file.exists() and not file.is_file():
            raise LthError(f"{file} is no ordinary file, and so no ticket")
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
        header = header if isinstance(header, dict) else {}
    except (SafetensorError, ValueError, RecursionError) as error:
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
        card = _card(content)
        named = {
            part: {
                name.removeprefix(f"{part}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{part}/")
            }
            for part in ("masks", "initial", "trained", "fitted")
        }
        if card.data_kind == "images":
            named["fitted"] = {"mean": tensors["mean"], "scale": tensors["scale"]}
        for name, mask in named["masks"].items():
            if mask.dtype != torch.bool or mask.shape != named["trained"][name].shape:
                raise ValueError(f"the mask of {name!r} is not one of its weight")
        return PortableTicket(card, named["masks"], named["initial"], named["trained"], named["fitted"])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).splitlines())
        raise LthError(f"{where} is damaged, or of another version: {type(error).__name__}: {reason}") from None


def _card(content: dict[str, Any]) -> Card:
    """A card as its header has it; what was called accuracy before there were other scores is a score."""
    known = {name.replace("test_accuracy", "test_score"): value for name, value in content.items()}
    columns = tuple(
        Column(column["name"], None if column["categories"] is None else tuple(column["categories"]))
        for column in known.pop("columns", ())
    )
    for name in ("input_shape", "imports", "indicators"):
        known[name] = tuple(known.get(name, ()))
    card = Card(**known, columns=columns)
    try:
        _CARD.validate_json(json.dumps(asdict(card)), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}; got {first['input']!r:.80}") from None
    if not all(number > 0 for number in (*card.input_shape, card.classes)):
        raise ValueError(f"inputs of {card.input_shape} and {card.classes} classes are no sizes")
    return card
