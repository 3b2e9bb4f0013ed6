"""How a cohort computes losses, gradients and logits: three programs with one interface.

- `DenseProgram`: stacked matrix products with hand-written gradients, for plain multi-layer perceptrons.
- `StackedProgram`: `vmap(grad(...))` over any module, all seeds at once; pays on a GPU.
- `InTurnProgram`: any module, one seed after another; convolutions on a CPU are faster this way.

Which one runs depends on the module and the device, never on the number of seeds: a seed's bits are those of a cohort
of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from lth.engine.feed import aligned_empty
from lth.engine.network import Network
from lth.engine.recipe import Precision
from lth.streams import stream_seed

Buffers = Mapping[str, torch.Tensor]


class Program(Protocol):
    """One seed per leading index: weights [seeds, width], images [seeds, batch, C, H, W], labels [seeds, batch]."""

    def gradients(
        self,
        weights: torch.Tensor,
        buffers: Buffers,
        images: torch.Tensor,
        labels: torch.Tensor,
        gradient: torch.Tensor,
        step: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the gradient of the mean cross-entropy into `gradient`.

        Returns the batch's summed log-likelihood in nats (float64 [seeds]) and how many it had right (int64 [seeds]).
        """

    def logits(self, weights: torch.Tensor, buffers: Buffers, images: torch.Tensor) -> torch.Tensor:
        """Logits [seeds, batch, classes] in evaluation mode."""


def choose_program(
    network: Network, seeds: Sequence[int], device: torch.device, precision: Precision, stack: bool | None = None
) -> Program:
    """The fastest program for a network on a device; `stack` forces stacking or taking turns (for tests)."""
    layers = dense_layers(network)
    if layers and precision != "bf16" and stack is None:
        return DenseProgram(network, layers)
    stacked = device.type == "cuda" if stack is None else stack
    if stacked and network.stackable:
        return StackedProgram(network, precision)
    return InTurnProgram(network, seeds, precision)


def dense_layers(network: Network) -> list[tuple[str, str]]:
    """Parameter names (weight, bias) of each layer if the module is Flatten, Linear, ReLU, ..., Linear; else empty."""
    module = network.module
    if type(module) is not nn.Sequential or len(module) < 2 or type(module[0]) is not nn.Flatten:
        return []
    names = []
    layers: list[nn.Module] = list(module)
    for position, layer in enumerate(layers[1:], start=1):
        if type(layer) is not (nn.Linear if position % 2 else nn.ReLU):
            return []
        if isinstance(layer, nn.Linear):
            if layer.bias is None:
                return []
            names.append((f"{position}.weight", f"{position}.bias"))
    parameters = {slot.name for slot in network.layout.slots}
    plain = module[0].start_dim == 1 and module[0].end_dim == -1 and len(module) % 2 == 0
    return names if plain and parameters == {name for pair in names for name in pair} else []


class DenseProgram:
    """A stack of multi-layer perceptrons as batched matrix products.

    Per layer h = relu(x W^T + b); backwards, with d the gradient at a layer's output, dW = d^T x, db = sum d and
    dx = d W (Rumelhart, Hinton & Williams 1986). The gradient at the logits is (softmax - one-hot) / batch.
    """

    def __init__(self, network: Network, layers: Sequence[tuple[str, str]]) -> None:
        self.layout = network.layout
        self.layers = layers
        self._views: dict[int, tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]] = {}
        self._space: dict[tuple[int, int, torch.device], list[torch.Tensor]] = {}

    def _parameters(self, rows: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Weight [seeds, out, in] and bias [seeds, 1, out] of each layer; the views of known rows are kept."""
        known = self._views.get(id(rows))
        if known is None or known[0] is not rows:
            views = self.layout.views(rows)
            known = (rows, [(views[weight], views[bias].unsqueeze(1)) for weight, bias in self.layers])
            if len(self._views) > 4:
                self._views.clear()
            self._views[id(rows)] = known
        return known[1]

    def _activations(
        self, seeds: int, batch: int, parameters: list[tuple[torch.Tensor, torch.Tensor]], slot: int
    ) -> list[torch.Tensor]:
        device = parameters[0][0].device
        key = (seeds, batch, device) if slot == 0 else (-seeds, batch, device)
        if key not in self._space:
            self._space[key] = [aligned_empty(seeds, batch, weight.shape[1], device=device) for weight, _ in parameters]
        return self._space[key]

    def _forward(self, parameters: list[tuple[torch.Tensor, torch.Tensor]], images: torch.Tensor) -> list[torch.Tensor]:
        outputs = self._activations(images.shape[0], images.shape[1], parameters, 0)
        value = images.flatten(2)
        for position, ((weight, bias), output) in enumerate(zip(parameters, outputs, strict=True)):
            torch.bmm(value, weight.transpose(1, 2), out=output).add_(bias)
            value = output.relu_() if position + 1 < len(outputs) else output
        return outputs

    def logits(self, weights: torch.Tensor, buffers: Buffers, images: torch.Tensor) -> torch.Tensor:
        return self._forward(self._parameters(weights), images)[-1]

    def gradients(
        self,
        weights: torch.Tensor,
        buffers: Buffers,
        images: torch.Tensor,
        labels: torch.Tensor,
        gradient: torch.Tensor,
        step: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        parameters, gradients = self._parameters(weights), self._parameters(gradient)
        outputs = self._forward(parameters, images)
        deltas = self._activations(images.shape[0], images.shape[1], parameters, 1)
        batch = images.shape[1]
        target = labels.unsqueeze(2)
        delta = torch.log_softmax(outputs[-1], 2)
        picked = delta.gather(2, target)
        likelihood = picked.sum((1, 2), dtype=torch.float64)
        correct = (delta.argmax(2) == labels).sum(1)
        torch.exp(delta, out=deltas[-1])
        deltas[-1].scatter_add_(2, target, picked.fill_(-1.0)).mul_(1.0 / batch)
        for position in reversed(range(len(parameters))):
            delta = deltas[position]
            below = outputs[position - 1] if position else images.flatten(2)
            torch.bmm(delta.transpose(1, 2), below, out=gradients[position][0])
            torch.sum(delta, 1, keepdim=True, out=gradients[position][1])
            if position:
                torch.bmm(delta, parameters[position][0], out=deltas[position - 1])
                torch.ops.aten.threshold_backward.grad_input(
                    deltas[position - 1], below, 0, grad_input=deltas[position - 1]
                )
        return likelihood, correct


def _autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


class StackedProgram:
    """Any module, all seeds in one `vmap`; batch-norm buffers have their own row per seed."""

    def __init__(self, network: Network, precision: Precision) -> None:
        self.network = network
        self.precision = precision

        def loss(
            parameters: dict[str, torch.Tensor],
            buffers: dict[str, torch.Tensor],
            images: torch.Tensor,
            labels: torch.Tensor,
        ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]]:
            logits = functional_call(network.module, (parameters, buffers), (images,)).float()
            value = functional.cross_entropy(logits, labels)
            return value, (value.detach(), (logits.argmax(1) == labels).sum(), buffers)

        self._gradients = vmap(grad(loss, has_aux=True))
        self._logits = vmap(
            lambda parameters, buffers, images: functional_call(network.module, (parameters, buffers), (images,))
        )

    def logits(self, weights: torch.Tensor, buffers: Buffers, images: torch.Tensor) -> torch.Tensor:
        self.network.module.eval()
        with torch.no_grad(), _autocast(self.precision, weights.device):
            logits: torch.Tensor = self._logits(self.network.layout.views(weights), dict(buffers), images)
            return logits.float()

    def gradients(
        self,
        weights: torch.Tensor,
        buffers: Buffers,
        images: torch.Tensor,
        labels: torch.Tensor,
        gradient: torch.Tensor,
        step: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.network.module.train()
        with _autocast(self.precision, weights.device):
            fresh = {name: buffer.clone() for name, buffer in buffers.items()}
            gradients, (loss, correct, updated) = self._gradients(
                self.network.layout.views(weights), fresh, images, labels
            )
        for name, view in self.network.layout.views(gradient).items():
            view.copy_(gradients[name])
        for name, buffer in buffers.items():
            buffer.copy_(updated[name])
        return loss.double() * -labels.shape[1], correct


class InTurnProgram:
    """Any module, one seed after another. Random layers draw from the seed's own stream ("dropout", step)."""

    def __init__(self, network: Network, seeds: Sequence[int], precision: Precision) -> None:
        self.network = network
        self.seeds = tuple(seeds)
        self.precision = precision

    def logits(self, weights: torch.Tensor, buffers: Buffers, images: torch.Tensor) -> torch.Tensor:
        self.network.module.eval()
        views = self.network.layout.views(weights)
        with torch.no_grad(), _autocast(self.precision, weights.device):
            return torch.stack(
                [
                    functional_call(self.network.module, (_row(views, row), _row(buffers, row)), (images[row],)).float()
                    for row in range(len(weights))
                ]
            )

    def gradients(
        self,
        weights: torch.Tensor,
        buffers: Buffers,
        images: torch.Tensor,
        labels: torch.Tensor,
        gradient: torch.Tensor,
        step: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.network.module.train()
        views, outputs = self.network.layout.views(weights), self.network.layout.views(gradient)
        losses, corrects = [], []
        for row, seed in enumerate(self.seeds):
            parameters = {name: view[row].detach().requires_grad_() for name, view in views.items()}
            with _own_randomness(self.network, seed, step, weights.device), _autocast(self.precision, weights.device):
                logits = functional_call(self.network.module, (parameters, _row(buffers, row)), (images[row],)).float()
                loss = functional.cross_entropy(logits, labels[row])
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for name, value in zip(parameters, found, strict=True):
                outputs[name][row].copy_(torch.zeros(()) if value is None else value)  # None: unused in this step
            losses.append(loss.detach())
            corrects.append((logits.detach().argmax(1) == labels[row]).sum())
        return torch.stack(losses).double() * -labels.shape[1], torch.stack(corrects)


def _row(tensors: Mapping[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    return {name: tensor[row] for name, tensor in tensors.items()}


@contextmanager
def _own_randomness(network: Network, seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Within it torch's generators belong to (seed, step); outside they are as they were."""
    if not network.draws_randomness:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(stream_seed(seed, "dropout", step))
        yield
