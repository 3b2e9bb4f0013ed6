"""A network as the engine sees it: layout, buffers, what can be pruned; and its initial weights per seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MethodType

import torch
from torch import nn
from torch.func import grad, vmap

from lth.engine.layout import Layout
from lth.errors import InvalidExperiment
from lth.models.calling import call, trained_and_held
from lth.models.computed_weights import assign, computed_weights
from lth.models.structure import PrunableTensor
from lth.streams import own_randomness, stream, watched_randomness


@dataclass(frozen=True)
class Network:
    """A module's structure, without weights of its own.

    `module` is a skeleton: its tensors are never read, it only says how to compute. Layers that its factory has set to
    evaluation mode stay in it. `build` makes a fresh module with weights from the global generators. `input_shape` is
    that of one example. `layout` is of the parameters that are trained; `buffers` holds the `frozen` ones, too, of any
    type. `matrices` are all weights that take part in products, pruned or not. `draws_randomness` tells whether a pass
    draws random numbers (dropout), found by watching the generators; `random_buffers` whether its constructor draws any
    buffer; `activation_floats` the outputs of all its layers for one example.
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
    matrices: tuple[PrunableTensor, ...] = ()
    frozen: frozenset[str] = frozenset()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every parameter by name, frozen ones included."""
        held = {name: tuple(self.buffers[name].shape) for name in sorted(self.frozen)}
        return {**{slot.name: slot.shape for slot in self.layout.slots}, **held}

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
    matrices: tuple[PrunableTensor, ...] | None = None,
) -> Network:
    """The network that `build` makes; `matrices` are those of its structure, `prunable` where they are not given.

    Raises InvalidExperiment where `initialisation` cannot draw its weights. Touches the global generators only within a
    fork.
    """
    with own_randomness(0, "description"):
        module = build()
    layers_stay_in_evaluation(module)
    with own_randomness(1, "description"):
        tried = build()
    trained, held = trained_and_held(tried)
    buffers = {name: tensor.clone() for name, tensor in held.items()}
    again = trained_and_held(module)[1]
    random_buffers = any(not torch.equal(again[name], buffer) for name, buffer in buffers.items())
    activations, drawn = 0, False
    for mode in (True, False):
        tried.train(mode)
        with torch.no_grad(), own_randomness(2, "description"), watched_randomness() as watched:
            activations = _activation_floats(tried, input_shape)
        drawn |= watched.drawn
    network = Network(
        module,
        build,
        Layout.of({name: tuple(parameter.shape) for name, parameter in trained.items()}),
        buffers,
        prunable,
        tuple(input_shape),
        classes,
        initialisation,
        drawn,
        random_buffers,
        activations,
        prunable if matrices is None else matrices,
        frozenset(name for name, _ in tried.named_parameters() if name not in trained),
    )
    if initialisation != "own" and _draws_indirectly(network, tried):
        with own_randomness(0, "description"):
            _draw(network, build(), torch.Generator())  # which is where a parametrisation refuses
    return network


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
        logits = call(module, {**parameters, **buffers}, images)
        return logits.logsumexp(1).mean(), buffers

    trained, held = (
        {name: torch.stack([tensor, tensor]) for name, tensor in tensors.items()}
        for tensors in trained_and_held(module)
    )
    try:
        vmap(grad(loss, has_aux=True))(trained, held, torch.zeros(2, 2, *input_shape))
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
    et al. 2015, fan-in) redraw the weights of dense and convolutional layers and set their biases to zero. They redraw
    other weights that multiply what flows (of attention, of recurrent cells, in functions), too, in the order in which
    they run: with k = `fan_in` of n entries, Gaussian of variance 2 / (k + n / k) or 2 / k; their biases stay as built.
    A weight that is computed from others (weight norm) is drawn as what is computed. Frozen weights stay.
    """
    rows = torch.zeros(len(seeds), network.layout.width)
    for row, seed in zip(rows, seeds, strict=True):
        parameters = dict(_drawn(network, seed, purpose, draw).named_parameters())
        for slot in network.layout.slots:
            row[slot.offset : slot.offset + slot.size] = parameters[slot.name].detach().flatten()
    return rows


def initial_buffers(
    network: Network, seeds: Sequence[int], purpose: str = "init", draw: int = 0
) -> dict[str, torch.Tensor]:
    """The buffers of freshly built modules: name -> [seeds, *shape], from the stream that `initialise` builds with.

    Frozen weights are always those of the stream `init`: the seed's own, in whatever is trained.
    """
    if not network.random_buffers:
        return {name: buffer.expand(len(seeds), *buffer.shape).clone() for name, buffer in network.buffers.items()}
    built = [trained_and_held(_drawn(network, seed, purpose, draw))[1] for seed in seeds]
    if network.frozen and (purpose, draw) != ("init", 0):
        for tensors, seed in zip(built, seeds, strict=True):
            own = trained_and_held(_drawn(network, seed, "init", 0))[1]
            tensors.update({name: own[name] for name in network.frozen})
    return {name: torch.stack([tensors[name] for tensors in built]) for name in network.buffers}


def _drawn(network: Network, seed: int, purpose: str, draw: int) -> nn.Module:
    with own_randomness(seed, purpose + "/own", draw):
        module = network.build()
        if network.initialisation != "own":
            _draw(network, module, stream(seed, purpose, draw))
    return module


def _draw(network: Network, module: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of a freshly built module anew."""
    glorot = network.initialisation == "glorot_normal"
    computed = {(id(layer), key): parts for layer, key, parts in computed_weights(module)}
    drawn: set[int] = set()
    for layer in module.modules():
        if not isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)):
            continue
        parts = computed.get((id(layer), "weight"), [layer.weight])
        if all(part.requires_grad for part in parts):
            fresh = layer.weight if parts[0] is layer.weight else torch.empty_like(layer.weight)
            if glorot:
                nn.init.xavier_normal_(fresh, generator=generator)
            else:
                nn.init.kaiming_normal_(fresh, nonlinearity="relu", generator=generator)
            if fresh is not layer.weight:
                assign(layer, "weight", fresh)
        drawn.update(map(id, parts))
        if layer.bias is not None and layer.bias.requires_grad:
            nn.init.zeros_(layer.bias)
    parameters = dict(module.named_parameters())
    targets = {id(part): (layer, key) for layer, key, parts in computed_weights(module) for part in parts}
    for tensor in network.matrices:
        parameter = parameters[tensor.name]
        if id(parameter) in drawn or not tensor.fan_in:
            continue
        spread = tensor.fan_in + tensor.size / tensor.fan_in if glorot else tensor.fan_in
        fresh = torch.empty_like(parameter).normal_(0.0, math.sqrt(2 / spread), generator=generator)
        if id(parameter) not in targets:
            with torch.no_grad():
                parameter.copy_(fresh)
            continue
        layer, key = targets[id(parameter)]
        if getattr(layer, key).shape != fresh.shape:
            raise InvalidExperiment(
                f"the weight {tensor.name!r} is computed in another shape than its parameter's; set "
                "model.initialisation to own"
            )
        assign(layer, key, fresh)


def _draws_indirectly(network: Network, module: nn.Module) -> bool:
    """Whether a weight of the module is not a parameter of its layer."""
    layers = (layer for layer in module.modules() if isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)))
    return any("weight" not in layer._parameters for layer in layers) or any(computed_weights(module))
