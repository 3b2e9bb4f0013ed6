"""How a cohort computes losses, gradients and outputs: three programs with one interface.

- `DenseProgram`: stacked matrix products with hand-written gradients, for plain multi-layer perceptrons and objectives
  that know their gradient by hand.
- `StackedProgram`: `vmap(grad(...))` over any module, all seeds at once; pays on a GPU.
- `InTurnProgram`: any module, one seed after another; convolutions on a CPU are faster this way.

Which one runs depends on the module and the device, never on the number of seeds: a seed's bits are those of a cohort
of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import nn
from torch.func import grad, vmap

from lth.engine.feed import aligned_empty
from lth.engine.network import Network
from lth.engine.recipe import Precision
from lth.engine.state import CohortState
from lth.models.calling import call
from lth.objectives import HasOutputGradient, Objective, score_of
from lth.streams import own_randomness

Buffers = Mapping[str, torch.Tensor]


class Program(Protocol):
    """One seed per leading index: inputs [seeds, batch, *input_shape], targets [seeds, batch], rows [seeds, width]."""

    def gradients(
        self, state: CohortState, inputs: torch.Tensor, targets: torch.Tensor, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the gradient of the objective's mean loss at the state's weights into `gradient` [seeds, width].

        Returns the batch's summed loss, float64 [seeds], and the sums of the objective's score, float64 [sums, seeds].
        What is written for weights outside the state's mask is theirs where a program computes it, and 0 where not.
        """

    def outputs(self, weights: torch.Tensor, buffers: Buffers, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs [seeds, batch, outputs] in evaluation mode."""


def choose_program(
    network: Network,
    objective: Objective,
    seeds: Sequence[int],
    device: torch.device,
    precision: Precision,
    stack: bool | None = None,
) -> Program:
    """The fastest program for a network on a device; `stack` forces stacking or taking turns (for tests)."""
    layers = dense_layers(network)
    if layers and precision != "bf16" and stack is None and isinstance(objective, HasOutputGradient):
        return DenseProgram(network, objective, layers)
    stacked = device.type == "cuda" if stack is None else stack
    if stacked and network.stackable:
        return StackedProgram(network, objective, precision)
    return InTurnProgram(network, objective, seeds, precision)


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
    dx = d W (Rumelhart, Hinton & Williams 1986). The gradient at the outputs is the objective's.
    """

    def __init__(self, network: Network, objective: HasOutputGradient, layers: Sequence[tuple[str, str]]) -> None:
        self.layout = network.layout
        self.objective = objective
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

    def _forward(self, parameters: list[tuple[torch.Tensor, torch.Tensor]], inputs: torch.Tensor) -> list[torch.Tensor]:
        outputs = self._activations(inputs.shape[0], inputs.shape[1], parameters, 0)
        value = inputs.flatten(2)
        for position, ((weight, bias), output) in enumerate(zip(parameters, outputs, strict=True)):
            torch.bmm(value, weight.transpose(1, 2), out=output).add_(bias)
            value = output.relu_() if position + 1 < len(outputs) else output
        return outputs

    def outputs(self, weights: torch.Tensor, buffers: Buffers, inputs: torch.Tensor) -> torch.Tensor:
        return self._forward(self._parameters(weights), inputs)[-1]

    def gradients(
        self, state: CohortState, inputs: torch.Tensor, targets: torch.Tensor, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        parameters, gradients = self._parameters(state.weights), self._parameters(gradient)
        values = self._forward(parameters, inputs)
        deltas = self._activations(inputs.shape[0], inputs.shape[1], parameters, 1)
        loss, sums = self.objective.output_gradient(values[-1], targets, deltas[-1])
        for position in reversed(range(len(parameters))):
            delta = deltas[position]
            below = values[position - 1] if position else inputs.flatten(2)
            torch.bmm(delta.transpose(1, 2), below, out=gradients[position][0])
            torch.sum(delta, 1, keepdim=True, out=gradients[position][1])
            if position:
                torch.bmm(delta, parameters[position][0], out=deltas[position - 1])
                torch.ops.aten.threshold_backward.grad_input(
                    deltas[position - 1], below, 0, grad_input=deltas[position - 1]
                )
        return loss, sums


def _autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


class StackedProgram:
    """Any module, all seeds in one `vmap`; batch-norm buffers have their own row per seed."""

    def __init__(self, network: Network, objective: Objective, precision: Precision) -> None:
        self.network = network
        self.score = score_of(objective)
        self.precision = precision

        def loss(
            parameters: dict[str, torch.Tensor],
            buffers: dict[str, torch.Tensor],
            inputs: torch.Tensor,
            targets: torch.Tensor,
        ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]]:
            outputs = call(network.module, {**parameters, **buffers}, inputs).float()
            value = objective.loss(outputs, targets)
            return value, (value.detach(), outputs.detach(), buffers)

        self._gradients = vmap(grad(loss, has_aux=True))
        self._outputs = vmap(
            lambda parameters, buffers, inputs: call(network.module, {**parameters, **buffers}, inputs)
        )

    def outputs(self, weights: torch.Tensor, buffers: Buffers, inputs: torch.Tensor) -> torch.Tensor:
        self.network.module.eval()
        with torch.no_grad(), _autocast(self.precision, weights.device):
            outputs: torch.Tensor = self._outputs(self.network.layout.views(weights), dict(buffers), inputs)
        return outputs.float()

    def gradients(
        self, state: CohortState, inputs: torch.Tensor, targets: torch.Tensor, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.network.module.train()
        with _autocast(self.precision, state.weights.device):
            fresh = {name: buffer.clone() for name, buffer in state.buffers.items()}
            gradients, (loss, outputs, updated) = self._gradients(
                self.network.layout.views(state.weights), fresh, inputs, targets
            )
        for name, view in self.network.layout.views(gradient).items():
            view.copy_(gradients[name])
        for name, buffer in state.buffers.items():
            buffer.copy_(updated[name])
        return loss.double() * targets.shape[1], self.score.sums_of(outputs, targets)


class InTurnProgram:
    """Any module, one seed after another. What draws random numbers draws from the seed's own stream ("dropout", step);
    in evaluation mode from the same one at every batch."""

    def __init__(self, network: Network, objective: Objective, seeds: Sequence[int], precision: Precision) -> None:
        self.network = network
        self.objective = objective
        self.score = score_of(objective)
        self.seeds = tuple(seeds)
        self.precision = precision

    def _randomness(self, seed: int, device: torch.device, name: str, *counters: int) -> AbstractContextManager[None]:
        if self.network.draws_randomness:
            return own_randomness(seed, name, *counters, device=device)
        return nullcontext()

    def outputs(self, weights: torch.Tensor, buffers: Buffers, inputs: torch.Tensor) -> torch.Tensor:
        self.network.module.eval()
        views, device = self.network.layout.views(weights), weights.device
        found = []
        for row, seed in enumerate(self.seeds):
            with torch.no_grad(), self._randomness(seed, device, "evaluation"), _autocast(self.precision, device):
                found.append(call(self.network.module, {**_row(views, row), **_row(buffers, row)}, inputs[row]).float())
        return torch.stack(found)

    def gradients(
        self, state: CohortState, inputs: torch.Tensor, targets: torch.Tensor, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.network.module.train()
        device = state.weights.device
        views, written = self.network.layout.views(state.weights), self.network.layout.views(gradient)
        losses, answers = [], []
        for row, seed in enumerate(self.seeds):
            parameters = {name: view[row].detach().requires_grad_() for name, view in views.items()}
            with self._randomness(seed, device, "dropout", state.step):
                with _autocast(self.precision, device):
                    outputs = call(self.network.module, {**parameters, **_row(state.buffers, row)}, inputs[row]).float()
                    loss = self.objective.loss(outputs, targets[row])
                found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for name, value in zip(parameters, found, strict=True):
                written[name][row].copy_(torch.zeros(()) if value is None else value)  # None: unused in this step
            losses.append(loss.detach())
            answers.append(outputs.detach())
        return (
            torch.stack(losses).double() * targets.shape[1],
            self.score.sums_of(torch.stack(answers), targets),
        )


def _row(tensors: Mapping[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    return {name: tensor[row] for name, tensor in tensors.items()}
