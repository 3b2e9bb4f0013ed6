"""A network as the engine sees it: layout, buffers, what can be pruned; and its initial weights per seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MethodType

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from lth.draws import portable_draws
from lth.engine.layout import Layout
from lth.models.structure import PrunableTensor
from lth.streams import own_randomness, stream, watched_randomness


@dataclass(frozen=True)
class Network:
    """A module's structure, without weights of its own.

    `module` is a skeleton: its tensors are never read, it only says how to compute. Layers that its factory has set to
    evaluation mode stay in it. `build` makes a fresh module with weights from the global generators. `input_shape` is
    that of one example. `draws_randomness` tells whether a pass draws random numbers (dropout), found by watching the
    generators; `random_buffers` whether its constructor draws any buffer; `activation_floats` the outputs of all its
    layers for one example.
    """

    module: nn.Module
    build: Callable[[], nn.Module]
    layout: Layout
    buffers: Mapping[str, torch.Tensor]
    prunable: tuple[PrunableTensor, ...]
    input_shape: tuple[int, ...]
    classes: int
    initialisation: str
    draws_randomness: bool
    random_buffers: bool
    activation_floats: int

    def masks(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mask rows [seeds, width] (bool) from one mask per prunable tensor; everything else is kept."""
        return self.layout.rows({name: mask.float() for name, mask in tensors.items()}, fill=1.0) > 0

    @cached_property
    def stackable(self) -> bool:
        """Whether `vmap` can run it: found by trying, on a copy."""
        if self.draws_randomness:
            return False
        with own_randomness(0, "description"):
            return _can_be_stacked(self.build().train(), self.input_shape)


def describe(
    build: Callable[[], nn.Module],
    input_shape: Sequence[int],
    classes: int,
    prunable: tuple[PrunableTensor, ...],
    initialisation: str,
) -> Network:
    """The network that `build` makes. Touches the global generators only within a fork."""
    with own_randomness(0, "description"):
        module = build()
    layers_stay_in_evaluation(module)
    with own_randomness(1, "description"):
        tried = build()
    buffers = {name: buffer.detach().clone() for name, buffer in tried.named_buffers()}
    random_buffers = any(not torch.equal(buffer, buffers[name]) for name, buffer in module.named_buffers())
    activations, drawn = 0, False
    for mode in (True, False):
        tried.train(mode)
        with torch.no_grad(), own_randomness(2, "description"), watched_randomness() as watched:
            activations = _activation_floats(tried, input_shape)
        drawn |= watched.drawn
    layout = Layout.of({name: tuple(parameter.shape) for name, parameter in module.named_parameters()})
    return Network(
        module,
        build,
        layout,
        buffers,
        prunable,
        tuple(input_shape),
        classes,
        initialisation,
        drawn,
        random_buffers,
        activations,
    )


def layers_stay_in_evaluation(module: nn.Module) -> list[str]:
    """Hold the layers that are in evaluation mode while `module` is not, whatever mode it is set to; their names."""
    held = [name for name, layer in module.named_modules() if module.training and not layer.training]
    for name in held:
        layer = module.get_submodule(name)
        layer.train = MethodType(_stay, layer)  # type: ignore[method-assign]
    return held


def _stay(layer: nn.Module, mode: bool = True) -> nn.Module:
    return layer


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
    with own_randomness(seed, purpose + "/own", draw):
        return network.build()
