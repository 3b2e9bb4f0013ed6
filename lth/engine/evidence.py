"""What criteria look at: gradients, Hessian products, flow, noise; for every seed of a cohort from that seed alone.

The functions of one network (`gradient`, `hessian_gradient`, ...) are pure and take any floating-point type, so that
they can be held against finite differences. `gather` computes what a criterion asks for, one seed after another: a
seed's evidence is the same to the bit in any cohort.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from lth.engine.feed import Feed
from lth.engine.network import Network
from lth.streams import stream, stream_seed

Tensors = Mapping[str, torch.Tensor]
AT_A_TIME = 32


@dataclass(frozen=True)
class Evidence:
    """One thing that a criterion can ask for by the name of a parameter."""

    description: str
    data: bool = False
    temperature: bool = False


EVIDENCE: dict[str, Evidence] = {
    "weights": Evidence("the weights as they are, pruned ones zero"),
    "initial_weights": Evidence("the weights at initialisation"),
    "gradient": Evidence("dL/dw of the mean cross-entropy over a sample of the training split", data=True),
    "squared_gradient": Evidence("the square of each batch's gradient, averaged over the sample's batches", data=True),
    "fisher_diagonal": Evidence("the square of each example's gradient, averaged over the sample", data=True),
    "hessian_gradient": Evidence(
        "Hg, the Hessian times the gradient over the prunable weights, of the cross-entropy of logits / temperature",
        data=True,
        temperature=True,
    ),
    "flow": Evidence("dR/d|w|, R the sum of the outputs for an input of ones and |w| as weights"),
    "movement": Evidence("-sum over the steps of the training of w dL/dw"),
    "noise": Evidence("uniform numbers in [0, 1) from the seed's own stream"),
}


@dataclass(frozen=True)
class Sample:
    """Which examples of its training split a seed is scored on.

    `examples` drawn without replacement, or `per_class` of every class; in batches of `batch_size`. `temperature`
    divides the logits where a criterion asks for that.
    """

    examples: int | None = 128
    per_class: int | None = None
    temperature: float = 1.0
    batch_size: int = 128


def gradient(
    module: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    images: torch.Tensor,
    labels: torch.Tensor,
    names: Sequence[str],
) -> dict[str, torch.Tensor]:
    """dL/dw of `names`, L the mean cross-entropy of the batch, in training mode (batch statistics)."""
    wanted = _requiring_grad(parameters, names)
    loss = _loss(module.train(), {**parameters, **wanted}, buffers, images, labels)
    return _grad(loss, wanted)


def hessian_gradient(
    module: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    images: torch.Tensor,
    labels: torch.Tensor,
    names: Sequence[str],
    temperature: float = 1.0,
    masks: Tensors | None = None,
) -> dict[str, torch.Tensor]:
    """Hg over `names`, by differentiating sum <stopgrad(g), g> once more (Wang et al. 2020, algorithm 2).

    With `masks`, g is that of the network that is left: a pruned weight has no gradient.
    """
    wanted = _requiring_grad(parameters, names)
    loss = _loss(module.train(), {**parameters, **wanted}, buffers, images, labels, temperature)
    first = torch.autograd.grad(loss, list(wanted.values()), create_graph=True, allow_unused=True)
    product = torch.zeros((), device=loss.device)
    for name, g in zip(wanted, first, strict=True):
        if g is not None:
            product = product + ((g.detach() if masks is None else g.detach() * masks[name]) * g).sum()
    return _grad(product, wanted)


def fisher_diagonal(
    module: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    images: torch.Tensor,
    labels: torch.Tensor,
    names: Sequence[str],
    stackable: bool = True,
) -> dict[str, torch.Tensor]:
    """Mean over examples of (dL_i/dw)^2 of `names`, in evaluation mode: one example has no batch statistics.

    Gradients of AT_A_TIME examples are held together; of one where `vmap` cannot run the module (not `stackable`).
    """
    module.eval()
    wanted = {name: parameters[name].detach() for name in names}

    def loss(some: dict[str, torch.Tensor], image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        logits = functional_call(module, ({**parameters, **some}, dict(buffers)), (image.unsqueeze(0),))
        return functional.cross_entropy(logits, label.unsqueeze(0))

    total = {name: torch.zeros_like(tensor) for name, tensor in wanted.items()}
    if stackable:
        each = vmap(grad(loss), in_dims=(None, 0, 0))
        for pictures, classes in zip(images.split(AT_A_TIME), labels.split(AT_A_TIME), strict=True):
            for name, found in each(wanted, pictures, classes).items():
                total[name] += found.square_().sum(0)
    else:
        for image, label in zip(images, labels, strict=True):
            for name, found in grad(loss)(wanted, image, label).items():
                total[name] += found.square()
    return {name: squares / len(labels) for name, squares in total.items()}


def flow(
    module: nn.Module, parameters: Tensors, buffers: Tensors, input_shape: Sequence[int], names: Sequence[str]
) -> dict[str, torch.Tensor]:
    """dR/d|w| of `names` in float64: R = sum of the outputs for ones as input and |w| as weights, evaluation mode.

    In float64 because R grows with the product of the widths (Tanaka et al. 2020). Running means count as 0: a shift
    is no flow. At initialisation they are 0 anyway, as published.
    """
    module.eval()
    absolute = {name: tensor.detach().abs().double() for name, tensor in parameters.items()}
    wanted = _requiring_grad(absolute, names)
    still = {
        name: torch.zeros_like(buffer).double()
        if name.endswith("running_mean")
        else buffer.double()
        if buffer.is_floating_point()
        else buffer
        for name, buffer in buffers.items()
    }
    ones = torch.ones(1, *input_shape, dtype=torch.float64, device=next(iter(absolute.values())).device)
    return _grad(functional_call(module, ({**absolute, **wanted}, still), (ones,)).sum(), wanted)


def gather(
    needs: Set[str],
    network: Network,
    seeds: Sequence[int],
    weights: torch.Tensor,
    buffers: Tensors,
    mask: torch.Tensor,
    *,
    initial: torch.Tensor | None = None,
    movement: torch.Tensor | None = None,
    feed: Feed | None = None,
    sample: Sample | None = None,
    input_shape: Sequence[int] = (),
    level: int = 0,
    round_: int = 0,
) -> dict[str, dict[str, torch.Tensor]]:
    """Evidence by name and prunable tensor, [seeds, *shape] each.

    `weights`, `initial`, `movement` and `mask` are rows [seeds, width]; pruned weights are taken as zero. `level` and
    `round_` tell the draws of noise apart, `round_` those of examples. Raises ValueError if something that is needed is
    not given.
    """
    names = [tensor.name for tensor in network.prunable]
    masked = weights.masked_fill(~mask, 0.0)
    rows = {"weights": masked, "initial_weights": initial, "movement": movement}
    found: dict[str, dict[str, torch.Tensor]] = {}
    for need in needs & rows.keys():
        given = rows[need]
        if given is None:
            raise ValueError(f"the evidence {need!r} was not given")
        views = network.layout.views(given)
        found[need] = {name: views[name] for name in names}
    computed = needs - rows.keys()
    if not computed:
        return found
    views, kept, each = network.layout.views(masked), network.layout.views(mask), []
    for row, seed in enumerate(seeds):
        one = _OneSeed(
            network,
            seed,
            row,
            {name: view[row] for name, view in views.items()},
            {name: buffer[row] for name, buffer in buffers.items()},
            {name: kept[name][row] for name in names},
            names,
            feed,
            sample or Sample(),
            input_shape,
            level,
            round_,
        )
        each.append({need: one.evidence(need) for need in computed})
    for need in computed:
        found[need] = {name: torch.stack([evidence[need][name] for evidence in each]) for name in names}
    return found


@dataclass(frozen=True)
class _OneSeed:
    """One seed's network and what it is scored on."""

    network: Network
    seed: int
    row: int
    parameters: Tensors
    buffers: Tensors
    masks: Tensors
    names: Sequence[str]
    feed: Feed | None
    sample: Sample
    input_shape: Sequence[int]
    level: int
    round_: int

    def evidence(self, need: str) -> dict[str, torch.Tensor]:
        if need == "noise":
            return {
                name: torch.rand(
                    self.parameters[name].shape, generator=stream(self.seed, f"noise/{name}", self.level, self.round_)
                ).to(self.parameters[name].device)
                for name in self.names
            }
        module = self.network.module
        if need == "flow":
            return flow(module, self.parameters, self.buffers, self.input_shape, self.names)
        images, labels = self._examples()
        network = (module, self.parameters, self.buffers)
        with _own_randomness(self.network, self.seed, self.round_, images.device):
            if need == "hessian_gradient":
                return hessian_gradient(*network, images, labels, self.names, self.sample.temperature, self.masks)
            if need == "fisher_diagonal":
                return fisher_diagonal(*network, images, labels, self.names, self.network.stackable)
            size = self.sample.batch_size
            batches = [
                (images[start : start + size], labels[start : start + size]) for start in range(0, len(labels), size)
            ]
            if need == "gradient":  # the mean over examples, whatever the size of the last batch
                return _mean(
                    [(gradient(*network, *batch, self.names), len(batch[1]) / len(labels)) for batch in batches]
                )
            return _mean(
                [
                    ({name: g.square() for name, g in gradient(*network, *batch, self.names).items()}, 1 / len(batches))
                    for batch in batches
                ]
            )

    def _examples(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Standardised images [n, C, H, W] and labels [n], from the stream ("scoring", round)."""
        if self.feed is None:
            raise ValueError("a criterion that needs data was given no feed")
        alone = self.feed.of_seed(self.row)
        train = alone.train[0]
        order = torch.randperm(len(train), generator=stream(self.seed, "scoring", self.round_)).to(train.device)
        shuffled = train[order]
        if self.sample.per_class is None:
            chosen = shuffled[: self.sample.examples]
        else:
            labels = alone.targets[shuffled]
            first = [
                (labels == label).nonzero().flatten()[: self.sample.per_class] for label in range(self.network.classes)
            ]
            chosen = shuffled[torch.cat(first).sort().values]
        inputs, targets = alone.batch(chosen.unsqueeze(0))
        return inputs[0], targets[0]


@contextmanager
def _own_randomness(network: Network, seed: int, round_: int, device: torch.device) -> Iterator[None]:
    """Within it torch's generators belong to the seed and the round, for networks that draw (dropout)."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], enabled=network.draws_randomness):
        if network.draws_randomness:
            torch.manual_seed(stream_seed(seed, "scoring/dropout", round_))
        yield


def _requiring_grad(parameters: Tensors, names: Sequence[str]) -> dict[str, torch.Tensor]:
    return {name: parameters[name].detach().clone().requires_grad_() for name in names}


def _loss(
    module: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    images: torch.Tensor,
    labels: torch.Tensor,
    temperature: float = 1.0,
) -> torch.Tensor:
    own = {name: buffer.clone() for name, buffer in buffers.items()}  # batch norm writes into them
    logits = functional_call(module, (dict(parameters), own), (images,))
    return functional.cross_entropy(logits / temperature, labels)


def _grad(value: torch.Tensor, wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = torch.autograd.grad(value, list(wanted.values()), allow_unused=True)
    return {name: torch.zeros_like(wanted[name]) if g is None else g for name, g in zip(wanted, found, strict=True)}


def _mean(parts: Sequence[tuple[Tensors, float]]) -> dict[str, torch.Tensor]:
    return {
        name: sum((tensors[name] * share for tensors, share in parts[1:]), parts[0][0][name] * parts[0][1])
        for name in parts[0][0]
    }
