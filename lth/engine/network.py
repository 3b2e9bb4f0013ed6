"""A network as the engine sees it: layout, buffers, what can be pruned; and its initial weights per seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from lth.draws import portable_draws
from lth.engine.layout import Layout
from lth.models.structure import PrunableTensor
from lth.streams import stream, stream_seed


@dataclass(frozen=True)
class Network:
    """A module's structure, without weights of its own.

    `module` is a skeleton: its tensors are never read, it only says how to compute. `build` makes a fresh module
    with weights from torch's global generator. `draws_randomness` tells whether a training pass draws random numbers
    (dropout), found by watching the generator; `random_buffers` whether its constructor draws any buffer; `stackable`
    whether `vmap` can run it, found by trying; `activation_floats` the outputs of all its layers for one example.
    """

    module: nn.Module
    build: Callable[[], nn.Module]
    layout: Layout
    buffers: Mapping[str, torch.Tensor]
    prunable: tuple[PrunableTensor, ...]
    classes: int
    initialisation: str
    draws_randomness: bool
    random_buffers: bool
    stackable: bool
    activation_floats: int

    def masks(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mask rows [seeds, width] (bool) from one mask per prunable tensor; everything else is kept."""
        return self.layout.rows({name: mask.float() for name, mask in tensors.items()}, fill=1.0) > 0


def describe(
    build: Callable[[], nn.Module],
    input_shape: Sequence[int],
    classes: int,
    prunable: tuple[PrunableTensor, ...],
    initialisation: str,
) -> Network:
    """The network that `build` makes. Touches torch's global generator only within a fork."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build()
        before = torch.get_rng_state()
        module.train()
        with torch.no_grad():
            module(torch.zeros(2, *input_shape))
        draws = not torch.equal(before, torch.get_rng_state())
        torch.manual_seed(1)
        buffers = {name: buffer.detach().clone() for name, buffer in build().named_buffers()}
        torch.manual_seed(2)
        random_buffers = any(not torch.equal(buffer, buffers[name]) for name, buffer in build().named_buffers())
        stackable = not draws and _can_be_stacked(module, input_shape)
        activations = _activation_floats(module, input_shape)
    layout = Layout.of({name: tuple(parameter.shape) for name, parameter in module.named_parameters()})
    return Network(
        module, build, layout, buffers, prunable, classes, initialisation, draws, random_buffers, stackable, activations
    )


def _can_be_stacked(module: nn.Module, input_shape: Sequence[int]) -> bool:
    """Whether a step of two stacked copies works; modules that look at values (`.item()`, branches) do not stack."""

    def loss(
        parameters: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor], images: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logits = functional_call(module, (parameters, buffers), (images,))
        return logits.logsumexp(1).mean(), buffers

    def twice(tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        return {name: torch.stack([tensor.detach(), tensor.detach()]) for name, tensor in tensors}

    try:
        vmap(grad(loss, has_aux=True))(
            twice(module.named_parameters()), twice(module.named_buffers()), torch.zeros(2, 2, *input_shape)
        )
    except Exception:  # whatever a user's module raises under vmap: it then takes turns, which always works
        return False
    return True


def _activation_floats(module: nn.Module, input_shape: Sequence[int]) -> int:
    floats = 0

    def count(_layer: nn.Module, _inputs: object, output: object) -> None:
        nonlocal floats
        floats += output[0].numel() if isinstance(output, torch.Tensor) and len(output) else 0

    hooks = [layer.register_forward_hook(count) for layer in module.modules() if not any(layer.children())]
    try:
        with torch.no_grad():
            module(torch.zeros(2, *input_shape))
    finally:
        for hook in hooks:
            hook.remove()
    return floats


def initialise(network: Network, seeds: Sequence[int], purpose: str = "init", draw: int = 0) -> torch.Tensor:
    """Initial weights [seeds, width], each seed from its own stream `purpose`, whatever the cohort.

    `own` keeps what the module's constructor draws. `glorot_normal` (Glorot & Bengio 2010) and `kaiming_normal` (He
    et al. 2015, fan-in) redraw the weights of dense and convolutional layers and set their biases to zero.
    """
    rows = torch.zeros(len(seeds), network.layout.width)
    for row, seed in zip(rows, seeds, strict=True):
        module = _built(network, seed, purpose, draw)
        if network.initialisation != "own":
            generator = stream(seed, purpose, draw)
            for layer in module.modules():
                if isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)):
                    with portable_draws():
                        if network.initialisation == "glorot_normal":
                            nn.init.xavier_normal_(layer.weight, generator=generator)
                        else:
                            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)
        parameters = dict(module.named_parameters())
        for slot in network.layout.slots:
            row[slot.offset : slot.offset + slot.size] = parameters[slot.name].detach().float().flatten()
    return rows


def initial_buffers(
    network: Network, seeds: Sequence[int], purpose: str = "init", draw: int = 0
) -> dict[str, torch.Tensor]:
    """The buffers of freshly built modules: name -> [seeds, *shape], from the stream that `initialise` builds with."""
    if not network.random_buffers:
        return {name: buffer.expand(len(seeds), *buffer.shape).clone() for name, buffer in network.buffers.items()}
    built = [dict(_built(network, seed, purpose, draw).named_buffers()) for seed in seeds]
    return {name: torch.stack([buffers[name].detach() for buffers in built]) for name in network.buffers}


def _built(network: Network, seed: int, purpose: str, draw: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]), portable_draws():
        torch.manual_seed(stream_seed(seed, purpose + "/own", draw))
        return network.build()
