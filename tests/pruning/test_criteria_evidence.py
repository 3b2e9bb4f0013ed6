"""What criteria look at, against finite differences, loops and closed forms."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scored_networks import (
    BUILDS,
    CLASSES,
    EVERYTHING,
    SHAPE,
    Tensors,
    cohort_of,
    convolutional,
    everything,
    images,
    masks_of,
    network_of,
    perceptron,
)
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from lth.data import ImageData
from lth.engine import CohortTraining, Recipe, Sample, Start, initialise, make_feed
from lth.engine.evidence import fisher_diagonal, flow, gather, gradient, hessian_gradient
from lth.engine.optimizers import SGD, Adam
from lth.engine.schedules import Constant, StepDecay
from lth.engine.watchers import Movement
from lth.streams import stream


class Double:
    """A small network in float64 with a batch: its loss computed in the plainest way, on a module of its own."""

    def __init__(self, build: Callable[[], nn.Module], examples: int = 6) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.module = build().double()
            self.images = torch.randn(examples, *SHAPE, dtype=torch.float64)
            self.labels = torch.randint(0, CLASSES, (examples,))
            for parameter in self.module.parameters():
                parameter.data += 0.05 * torch.randn(parameter.shape, dtype=torch.float64)
            for buffer in self.module.buffers():
                if buffer.is_floating_point():
                    buffer += 0.3 * torch.rand(buffer.shape, dtype=torch.float64)
        self.parameters = {name: parameter.detach().clone() for name, parameter in self.module.named_parameters()}
        self.buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        self.names = [
            name for name, parameter in self.parameters.items() if parameter.ndim > 1
        ]  # dense and convolutional weights

    def loss(
        self, changed: Tensors, temperature: float = 1.0, train: bool = True, batch: slice = slice(None)
    ) -> torch.Tensor:
        """Mean cross-entropy of (part of) the batch at other weights."""
        module = copy.deepcopy(self.module)
        module.load_state_dict({**self.parameters, **self.buffers, **changed})
        with torch.no_grad():
            logits = module.train(train)(self.images[batch]) / temperature
        return (torch.logsumexp(logits, 1) - logits.gather(1, self.labels[batch].unsqueeze(1)).squeeze(1)).mean()

    def autograd(
        self, changed: Tensors, temperature: float = 1.0, train: bool = True, batch: slice = slice(None)
    ) -> Tensors:
        """The gradient by torch's own, of a module's own parameters."""
        module = copy.deepcopy(self.module)
        module.load_state_dict({**self.parameters, **self.buffers, **changed})
        module.train(train).zero_grad()
        functional.cross_entropy(module(self.images[batch]) / temperature, self.labels[batch]).backward()
        return {name: dict(module.named_parameters())[name].grad for name in self.names}  # type: ignore[misc]

    def given(self) -> tuple[nn.Module, Tensors, Tensors]:
        return self.module, self.parameters, self.buffers


NETWORKS = pytest.mark.parametrize("build", [convolutional, perceptron])


@NETWORKS
def test_the_gradient_is_that_of_the_mean_cross_entropy_in_training_mode(build: Callable[[], nn.Module]) -> None:
    double, step = Double(build), 1e-6
    found = gradient(*double.given(), double.images, double.labels, double.names)

    assert list(found) == double.names
    for name in double.names:
        for position in range(0, found[name].numel(), 7 if build is perceptron else 2):
            losses = []
            for sign in (1, -1):
                weights = double.parameters[name].clone()
                weights.view(-1)[position] += sign * step
                losses.append(float(double.loss({name: weights})))
            assert float(found[name].view(-1)[position]) == pytest.approx(
                (losses[0] - losses[1]) / (2 * step), rel=1e-5, abs=1e-8
            )
    if build is convolutional:  # batch statistics, not the running ones
        evaluated = double.autograd({}, train=False)
        assert float((found["0.weight"] - evaluated["0.weight"]).abs().max()) > 1e-3


@NETWORKS
@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_the_hessian_product_is_the_derivative_of_the_gradient_along_itself(
    build: Callable[[], nn.Module], temperature: float
) -> None:
    """H g = d/de grad(w + e g), both over the prunable weights alone; logits divided by the temperature."""
    double = Double(build)
    found = hessian_gradient(*double.given(), double.images, double.labels, double.names, temperature)
    first = double.autograd({}, temperature)
    norm = float(sum((g**2).sum() for g in first.values())) ** 0.5
    step = 1e-5 / norm
    ahead, behind = (
        double.autograd(
            {name: double.parameters[name] + sign * step * first[name] for name in double.names}, temperature
        )
        for sign in (1, -1)
    )
    largest = max(float(product.abs().max()) for product in found.values())

    assert largest > 0
    for name in double.names:
        torch.testing.assert_close(
            found[name], (ahead[name] - behind[name]) / (2 * step), rtol=1e-5, atol=1e-7 * largest
        )


def test_the_hessian_product_of_a_linear_classifier_is_the_closed_form() -> None:
    """With logits W x, H of the cross-entropy is mean (diag p - p p^T) x x^T, block by class."""
    generator = torch.Generator().manual_seed(1)
    module = nn.Sequential(nn.Flatten(), nn.Linear(72, CLASSES, bias=False)).double()
    inputs = torch.randn(5, *SHAPE, dtype=torch.float64, generator=generator)
    labels, temperature = torch.tensor([0, 1, 2, 3, 1]), 2.0
    weights = torch.randn(CLASSES, 72, dtype=torch.float64, generator=generator)
    found = hessian_gradient(module, {"1.weight": weights}, {}, inputs, labels, ["1.weight"], temperature)["1.weight"]

    x = inputs.flatten(1)
    p = torch.softmax(x @ weights.T / temperature, 1)
    g = (p - functional.one_hot(labels, CLASSES)).T @ x / (5 * temperature)
    expected = torch.zeros_like(weights)
    for example in range(5):
        curvature = torch.diag(p[example]) - torch.outer(p[example], p[example])
        expected += torch.outer(curvature @ (g @ x[example]), x[example]) / (5 * temperature**2)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


@NETWORKS
@pytest.mark.parametrize("stackable", [True, False])
def test_the_fisher_diagonal_is_the_mean_of_every_examples_squared_gradient(
    build: Callable[[], nn.Module], stackable: bool
) -> None:
    double = Double(build, examples=35)  # more than are computed at a time
    found = fisher_diagonal(*double.given(), double.images, double.labels, double.names, stackable)
    expected = {name: torch.zeros_like(double.parameters[name]) for name in double.names}
    for example in range(35):
        for name, g in double.autograd({}, train=False, batch=slice(example, example + 1)).items():
            expected[name] += g**2 / 35

    for name in double.names:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-10, atol=1e-15)


def test_the_flow_of_a_perceptron_is_a_product_of_matrices() -> None:
    """R = 1^T |W3| |W2| |W1| 1 where biases are zero, and its derivative by each |W| in NumPy."""
    network = network_of(perceptron)
    weights = {name: view[0] for name, view in network.layout.views(initialise(network, (3,))).items()}
    found = flow(network.module, weights, {}, SHAPE, ["1.weight", "3.weight", "5.weight"])

    first, second, third = (np.abs(weights[name].double().numpy()) for name in ("1.weight", "3.weight", "5.weight"))
    ones, out = np.ones(72), np.ones(CLASSES)
    expected = {
        "1.weight": np.outer(second.T @ third.T @ out, ones),
        "3.weight": np.outer(third.T @ out, first @ ones),
        "5.weight": np.outer(out, second @ first @ ones),
    }
    for name, flowed in expected.items():
        np.testing.assert_allclose(found[name].numpy(), flowed, rtol=1e-12)
        assert float((found[name] * weights[name].double().abs()).sum()) == pytest.approx(
            float(out @ third @ second @ first @ ones), rel=1e-12
        )  # R itself, in every layer


def test_the_flow_through_biases_norms_and_pools_by_differences() -> None:
    """R is linear in each weight, so that a difference is its derivative without error. A running mean counts as 0."""
    double = Double(convolutional)
    found = flow(*double.given(), SHAPE, double.names)

    def total(changed: Tensors) -> float:
        absolute = {name: tensor.abs() for name, tensor in {**double.parameters, **changed}.items()}
        still = {
            name: torch.zeros_like(buffer) if name.endswith("mean") else buffer
            for name, buffer in double.buffers.items()
        }
        module = copy.deepcopy(double.module).eval()
        return float(functional_call(module, {**absolute, **still}, (torch.ones(1, *SHAPE).double(),)).sum())

    for name in double.names:
        for position in range(0, found[name].numel(), 3):
            weights = double.parameters[name].abs()
            weights.view(-1)[position] += 1.0
            assert float(found[name].view(-1)[position]) == pytest.approx(total({name: weights}) - total({}), rel=1e-9)


def examples_of(data: ImageData, seed: int, held_out: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The documented draw of a seed's sample, standardised in float64."""
    train = make_feed(data, (seed,), held_out, data.transform("none")).train[0]
    chosen = train[torch.randperm(len(train), generator=stream(seed, "scoring", 0))[:count]]
    pixels = data.train_inputs[train].double()
    mean, deviation = pixels.mean((0, 2, 3), keepdim=True), pixels.std((0, 2, 3), correction=0, keepdim=True)
    return (data.train_inputs[chosen].double() - mean) / deviation, data.train_labels[chosen]


@pytest.mark.parametrize("need", ["gradient", "squared_gradient"])
def test_evidence_over_several_batches_is_a_loop_over_them(need: str) -> None:
    """Gradients: the mean over examples, whatever the last batch holds. Squares: the mean over batches."""
    data, seeds = images(), (3, 7)
    network = network_of(convolutional)
    cohort, sample = cohort_of(network, seeds, data), Sample(examples=50, batch_size=20)
    found = gather(
        {need},
        network,
        seeds,
        cohort.weights,
        cohort.buffers,
        network.masks(masks_of(network, seeds)),
        feed=cohort.feed,
        sample=sample,
    )[need]

    weights = cohort.weights.masked_fill(~network.masks(masks_of(network, seeds)), 0.0)
    for row, seed in enumerate(seeds):
        inputs, labels = examples_of(data, seed, 40, 50)
        expected = {tensor.name: torch.zeros(tensor.shape, dtype=torch.float64) for tensor in network.prunable}
        for start, size in ((0, 20), (20, 20), (40, 10)):
            module = convolutional().double()
            module.load_state_dict(
                {name: view[row].double() for name, view in network.layout.views(weights).items()}, strict=False
            )
            functional.cross_entropy(module(inputs[start : start + size]), labels[start : start + size]).backward()
            for name in expected:
                g = dict(module.named_parameters())[name].grad
                assert g is not None
                expected[name] += g * size / 50 if need == "gradient" else g**2 / 3
        for name, value in expected.items():
            torch.testing.assert_close(
                found[name][row].double(), value, rtol=2e-4, atol=1e-5 * float(value.abs().max())
            )


@pytest.mark.parametrize("density", [1.0, 0.5, 0.2])
@pytest.mark.parametrize("build", [convolutional, perceptron])
def test_movement_is_minus_the_sum_over_steps_of_weight_times_gradient(
    build: Callable[[], nn.Module], density: float
) -> None:
    """Against SGD with momentum and weight decay written out, in float64; the penalty is no part of dL/dw."""
    data, seeds = images(), (3, 7)
    network = network_of(build)
    plan = Recipe(
        SGD(learning_rate=0.05, momentum=0.9, weight_decay=1e-2),
        StepDecay(warmup=0, milestones=(4,), factor=0.5),
        24,
        7,
        7,
        watchers=(Movement(),),
    )
    mask = network.masks(masks_of(network, seeds, density))
    buffers = cohort_of(network, seeds, data).buffers
    start = Start(initialise(network, seeds), buffers, mask)
    training = CohortTraining(network, plan, make_feed(data, seeds, 40, data.transform("channel")), start)
    batches = CohortTraining(network, plan, make_feed(data, seeds, 40, data.transform("channel")), start).batches
    result = training.advance().result()
    movement = result.kept["movement"]["movement"]

    alive = network.layout.views(mask)
    for row in range(2):
        module = build().double()
        module.load_state_dict(
            {
                name: view[row].double()
                for name, view in network.layout.views(initialise(network, seeds).masked_fill(~mask, 0)).items()
            },
            strict=False,
        )
        parameters = dict(module.named_parameters())
        expected = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
        velocity = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
        for step in range(7):
            inputs, labels = batches(step)
            module.zero_grad()
            functional.cross_entropy(module(inputs[row].double()), labels[row]).backward()
            for name, parameter in parameters.items():
                assert parameter.grad is not None
                keep = alive[name][row]
                expected[name] -= parameter.detach() * parameter.grad
                velocity[name] = 0.9 * velocity[name] + parameter.grad + 1e-2 * parameter.detach()
                parameter.data = (parameter.data - (0.05 if step < 4 else 0.025) * velocity[name]) * keep
        for tensor in network.prunable:
            moved = network.layout.views(movement)[tensor.name][row]
            value = expected[tensor.name].detach()
            torch.testing.assert_close(moved.double(), value, rtol=1e-3, atol=1e-4 * float(value.abs().max()))
            assert not moved[~alive[tensor.name][row]].any()  # pruned weights do not move


def test_movement_survives_a_restart_to_the_bit_and_changes_no_training() -> None:
    data, seeds = images(), (3, 7)
    network = network_of(perceptron)
    feed = make_feed(data, seeds, 40, data.transform("channel"))
    mask = network.masks(masks_of(network, seeds))
    plan = Recipe(Adam(learning_rate=0.01), Constant(), 24, 9, 3, watchers=(Movement(),))

    def training(movement: bool = True) -> CohortTraining:
        recipe = Recipe(plan.optimizer, plan.schedule, 24, 9, 3, watchers=(Movement(),) if movement else ())
        return CohortTraining(network, recipe, feed, Start(initialise(network, seeds), {}, mask))

    through = training().advance().result()
    resumed = training().restore(training().advance(4).checkpoint()).advance().result()
    assert torch.equal(through.kept["movement"]["movement"], resumed.kept["movement"]["movement"])
    plain = training(False).advance().result()
    assert not plain.kept and torch.equal(plain.end.weights, through.end.weights)


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize(
    "sample",
    [Sample(), Sample(90, batch_size=40), Sample(None, 6, 200.0)],
    ids=["one batch", "three batches", "per class"],
)
def test_a_seeds_evidence_is_the_same_to_the_bit_in_any_cohort(name: str, sample: Sample) -> None:
    together = everything(name, (3, 7, 11), sample)

    assert together.keys() == EVERYTHING
    for cohort in ((7,), (11, 3), (3, 7)):
        other = everything(name, cohort, sample)
        for need in EVERYTHING:
            for tensor, value in other[need].items():
                for row, seed in enumerate(cohort):
                    assert torch.equal(value[row], together[need][tensor][(3, 7, 11).index(seed)]), (need, tensor)
    # and another seed has other evidence
    assert all(not torch.equal(found[0], found[1]) for evidence in together.values() for found in evidence.values())


@pytest.mark.parametrize("name", BUILDS)
def test_looking_at_a_network_changes_nothing(name: str) -> None:
    network, data, seeds = network_of(BUILDS[name]), images(), (3, 7)
    cohort, mask = cohort_of(network, seeds, data), network.masks(masks_of(network, seeds))
    assert cohort.feed is not None
    watched = {
        "weights": cohort.weights,
        "initial": cohort.initial,
        "movement": cohort.watched["movement"],
        "mask": mask,
        **cohort.feed.examples,
        **cohort.buffers,
        **dict(network.module.named_parameters()),
        **dict(network.module.named_buffers()),
    }
    before = {key: tensor.detach().clone() for key, tensor in watched.items()}
    state = torch.get_rng_state()
    gather(
        EVERYTHING,
        network,
        seeds,
        cohort.weights,
        cohort.buffers,
        mask,
        initial=cohort.initial,
        watched=cohort.watched,
        feed=cohort.feed,
        input_shape=SHAPE,
    )

    assert [key for key, tensor in watched.items() if not torch.equal(tensor, before[key])] == []
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in network.module.parameters())


def test_pruned_weights_count_as_zero() -> None:
    network, data, seeds = network_of(convolutional), images(), (3, 7)
    cohort, mask = cohort_of(network, seeds, data), network.masks(masks_of(network, seeds))
    needs = EVERYTHING - {"movement", "initial_weights"}
    options = {"feed": cohort.feed, "input_shape": SHAPE}
    left, zeroed = (
        gather(needs, network, seeds, rows, cohort.buffers, mask, **options)  # type: ignore[arg-type]
        for rows in (cohort.weights, cohort.weights.masked_fill(~mask, 0.0))
    )

    assert all(torch.equal(left[need][name], zeroed[need][name]) for need in needs for name in left[need])
    for name, weights in left["weights"].items():
        assert not weights[~masks_of(network, seeds)[name]].any()


class Branching(nn.Module):
    """A module that looks at values, which vmap cannot run."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.spare = nn.Linear(72, CLASSES), nn.Linear(72, CLASSES)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        flat = pixels.flatten(1)
        return self.layer(flat) + (self.spare(flat) if flat.sum().item() > 1e9 else 0)


def test_every_evidence_can_be_had_of_a_module_that_vmap_cannot_run() -> None:
    network = network_of(Branching)
    assert not network.stackable
    cohort = cohort_of(network, (3, 7), images())
    found = gather(
        EVERYTHING,
        network,
        (3, 7),
        cohort.weights,
        {},
        torch.ones_like(cohort.weights, dtype=torch.bool),
        initial=cohort.initial,
        watched=cohort.watched,
        feed=cohort.feed,
        input_shape=SHAPE,
    )
    for need in ("gradient", "squared_gradient", "fisher_diagonal", "hessian_gradient", "flow"):
        assert found[need]["layer.weight"].shape == (2, CLASSES, 72)
        assert bool(found[need]["layer.weight"].any())


def test_evidence_that_is_not_given_is_named() -> None:
    network, data, seeds = network_of(perceptron), images(), (3,)
    cohort, mask = cohort_of(network, seeds, data), network.masks(masks_of(network, seeds))
    for need, message in (
        ("movement", "'movement' was not given"),
        ("initial_weights", "'initial_weights' was not"),
        ("gradient", "no feed"),
    ):
        with pytest.raises(ValueError, match=message):
            gather({need}, network, seeds, cohort.weights, {}, mask)
