"""Gradients against independent references, and the three programs against each other."""

from __future__ import annotations

import pytest
import torch
from small_networks import convolutional, images, perceptron, recipe, state_of, training_of
from torch.func import functional_call
from torch.nn import functional

from lth.engine import initial_buffers, initialise
from lth.engine.optimizers import SGD
from lth.engine.programs import DenseProgram, InTurnProgram, StackedProgram, choose_program, dense_layers
from lth.objectives import Classification

CPU = torch.device("cpu")


def batch(data, seeds: int, size: int = 20):  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randn(seeds, size, *data.input_shape, generator=generator)
    return pixels, torch.randint(0, data.classes, (seeds, size), generator=generator)


def test_the_program_follows_from_the_network() -> None:
    data = images()
    assert isinstance(choose_program(perceptron(data), Classification(), (0,), CPU, "float32"), DenseProgram)
    assert isinstance(choose_program(perceptron(data), Classification(), (0,), CPU, "bf16"), InTurnProgram)
    assert isinstance(choose_program(convolutional(data), Classification(), (0,), CPU, "float32"), InTurnProgram)
    assert isinstance(
        choose_program(convolutional(data), Classification(), (0,), torch.device("cuda"), "float32"), StackedProgram
    )
    assert isinstance(
        choose_program(convolutional(data, 0.5), Classification(), (0,), torch.device("cuda"), "float32"), InTurnProgram
    )


def test_dense_gradients_agree_with_autograd_in_double_precision() -> None:
    data = images()
    network = perceptron(data, (13, 7))
    weights, (pixels, labels) = initialise(network, (0, 1, 2)), batch(data, 3)
    gradient = torch.full_like(weights, 7.0)
    gradient_before = gradient.clone()
    program = DenseProgram(network, Classification(), dense_layers(network))
    loss, correct = program.gradients(state_of(weights), pixels, labels, gradient)
    for seed in range(3):
        parameters = {
            slot.name: weights[seed, slot.offset : slot.offset + slot.size].view(slot.shape).double().requires_grad_()
            for slot in network.layout.slots
        }
        logits = functional_call(network.module, parameters, (pixels[seed].double(),))
        expected = functional.cross_entropy(logits, labels[seed])
        expected.backward()
        assert float(loss[seed]) / 20 == pytest.approx(expected.item(), rel=1e-6)
        assert int(correct[0, seed]) == int((logits.argmax(1) == labels[seed]).sum())
        for slot in network.layout.slots:
            found = gradient[seed, slot.offset : slot.offset + slot.size].view(slot.shape)
            torch.testing.assert_close(found.double(), parameters[slot.name].grad, rtol=2e-5, atol=1e-7)
    padding = torch.ones(network.layout.width, dtype=torch.bool)
    for slot in network.layout.slots:
        padding[slot.offset : slot.offset + slot.size] = False
    assert torch.equal(gradient[:, padding], gradient_before[:, padding])  # and nothing is written beside them


def test_dense_gradients_agree_with_finite_differences() -> None:
    """By hand: (L(w + h) - L(w - h)) / 2h in double precision, for some weights of every layer."""
    data = images(shape=(1, 3, 3))
    network = perceptron(data, (5,))
    weights, (pixels, labels) = initialise(network, (0,)), batch(data, 1)
    gradient = torch.zeros_like(weights)
    DenseProgram(network, Classification(), dense_layers(network)).gradients(
        state_of(weights), pixels, labels, gradient
    )

    def loss_at(row: torch.Tensor) -> float:
        parameters = {
            slot.name: row[slot.offset : slot.offset + slot.size].view(slot.shape) for slot in network.layout.slots
        }
        hidden = (pixels[0].flatten(1).double() @ parameters["1.weight"].T + parameters["1.bias"]).clamp(min=0)
        logits = hidden @ parameters["3.weight"].T + parameters["3.bias"]
        return float((logits.exp().sum(1).log() - logits[torch.arange(len(logits)), labels[0]]).mean())

    for slot in network.layout.slots:
        for position in range(slot.offset, slot.offset + slot.size, max(slot.size // 5, 1)):
            up, down = weights[0].double(), weights[0].double()
            up[position] += 1e-6
            down[position] -= 1e-6
            expected = (loss_at(up) - loss_at(down)) / 2e-6
            assert float(gradient[0, position]) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_one_step_of_sgd_by_hand() -> None:
    """One weight, one pixel, two classes: the update can be worked out on paper."""
    data = images(examples=300, shape=(1, 1, 1), classes=2)
    network = perceptron(data, ())
    training = training_of(
        network, data, (0,), recipe(SGD(learning_rate=0.5, momentum=0.0), steps=1, batch_size=1, evaluate_every=1)
    )
    before = training.weights.clone()
    pixel, label = (tensor.clone() for tensor in training.batches(0))
    x, y = float(pixel), int(label)
    training.advance()
    w, b = before[0, :2].double(), before[0, 16:18].double()
    probability = (w * x + b).softmax(0)
    step = probability - torch.tensor([1.0 - y, float(y)], dtype=torch.float64)
    assert training.weights[0, :2].tolist() == pytest.approx((w - 0.5 * step * x).tolist(), rel=1e-5)
    assert training.weights[0, 16:18].tolist() == pytest.approx((b - 0.5 * step).tolist(), rel=1e-5, abs=1e-7)


def test_equal_logits_count_as_the_first_class_and_not_as_every_class() -> None:
    """A collapsed network answers every class alike; it is right where the first class is, not always."""
    data = images()
    network = perceptron(data)
    weights, (pixels, labels) = torch.zeros_like(initialise(network, (0,))), batch(data, 1)
    _, correct = DenseProgram(network, Classification(), dense_layers(network)).gradients(
        state_of(weights), pixels, labels, torch.zeros_like(weights)
    )
    assert int(correct[0, 0]) == int((labels == 0).sum()) < 20


@pytest.mark.parametrize("make", [perceptron, convolutional], ids=["perceptron", "convolutional"])
def test_stacking_and_taking_turns_compute_the_same(make) -> None:  # type: ignore[no-untyped-def]
    data = images()
    network = make(data)
    weights, (pixels, labels) = initialise(network, (0, 1, 2)), batch(data, 3)
    found = []
    for program in (
        StackedProgram(network, Classification(), "float32"),
        InTurnProgram(network, Classification(), (0, 1, 2), "float32"),
    ):
        state, gradient = state_of(weights, initial_buffers(network, (0, 1, 2))), torch.zeros_like(weights)
        buffers = state.buffers
        loss, correct = program.gradients(state, pixels, labels, gradient)
        found.append(
            {
                "loss": loss,
                "correct": correct,
                "gradient": gradient,
                "outputs": program.outputs(weights, buffers, pixels),
                **buffers,
            }
        )
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-4, atol=1e-5)
    if make is convolutional:
        assert found[0]["1.num_batches_tracked"].tolist() == [1, 1, 1]
        assert float(found[0]["1.running_mean"].abs().sum()) > 0


def test_a_whole_stacked_training_agrees_with_taking_turns() -> None:
    data = images()
    network, plan = convolutional(data), recipe(SGD(learning_rate=0.05, momentum=0.9), steps=8)
    stacked = training_of(network, data, (0, 1), plan, 0.5, stack=True).advance().result()
    turns = training_of(network, data, (0, 1), plan, 0.5, stack=False).advance().result()
    torch.testing.assert_close(stacked.curves.validation_loss, turns.curves.validation_loss, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        stacked.end.buffers["5.running_var"], turns.end.buffers["5.running_var"], rtol=1e-3, atol=1e-4
    )


def test_a_module_that_vmap_cannot_run_takes_turns_even_on_a_gpu() -> None:
    from small_networks import network_of
    from torch import nn

    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.spare = nn.Linear(64, 10), nn.Linear(64, 10)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            flat = pixels.flatten(1)
            return self.layer(flat) + (self.spare(flat) if flat.sum().item() > 1e9 else 0)

    data = images()
    network = network_of(Branching, data)
    assert not network.stackable and convolutional(data).stackable and perceptron(data).stackable
    assert isinstance(choose_program(network, Classification(), (0,), torch.device("cuda"), "float32"), InTurnProgram)
    # and a layer that a step did not use gets no gradient of an earlier step
    gradient = torch.full((1, network.layout.width), 5.0)
    pixels, labels = batch(data, 1)
    program = InTurnProgram(network, Classification(), (0,), "float32")
    program.gradients(state_of(initialise(network, (0,))), pixels, labels, gradient)
    views = network.layout.views(gradient)
    assert not views["spare.weight"].any() and views["layer.weight"].any()


def test_bf16_is_mixed_precision_and_close() -> None:
    data = images()
    network = perceptron(data)
    exact = training_of(network, data, (0,), recipe(steps=6)).advance().result()
    mixed = training_of(network, data, (0,), recipe(steps=6, precision="bf16")).advance().result()
    assert not torch.equal(exact.end.weights, mixed.end.weights)
    assert mixed.end.weights.dtype is torch.float32
    torch.testing.assert_close(mixed.curves.validation_loss, exact.curves.validation_loss, rtol=0.05, atol=0.05)
