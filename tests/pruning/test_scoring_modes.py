"""SNIP and GraSP as their authors' public codes score them, written out by hand, on networks with batch norm."""

from __future__ import annotations

import copy

import pytest
import torch
from scored_networks import CLASSES, SHAPE, Tensors, cohort_of, convolutional, images, masks_of, network_of
from torch import nn
from torch.nn import functional

from lth.data import load_dataset
from lth.engine import EVIDENCE, Sample, initial_buffers, initialise, make_feed
from lth.engine.evidence import gather
from lth.experiment import load_experiment
from lth.models.resnet import resnet
from lth.pruning import CRITERIA, Scored, prune
from lth.streams import stream

SEED = 3


def sample_of(sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
    """The documented draw: the training split shuffled, the first of all, or the first of every class in that order."""
    data = images()
    train = make_feed(data, (SEED,), 40, data.transform("none")).train[0]
    shuffled = train[torch.randperm(len(train), generator=stream(SEED, "scoring", 0))]
    labels = data.train_labels[shuffled]
    places = (
        torch.arange(len(shuffled))[: sample.examples]
        if sample.per_class is None
        else torch.cat([(labels == label).nonzero().flatten()[: sample.per_class] for label in range(CLASSES)])
    )
    chosen = shuffled[places.sort().values]
    pixels = data.train_inputs[train].double()
    mean, deviation = pixels.mean((0, 2, 3), keepdim=True), pixels.std((0, 2, 3), correction=0, keepdim=True)
    return (data.train_inputs[chosen].double() - mean) / deviation, data.train_labels[chosen]


def module_and_scores(criterion: str, sample: Sample) -> tuple[nn.Module, Tensors]:
    """A trained, pruned network with running statistics of its own, in float64, and the criterion's scores of it."""
    network = network_of(convolutional)
    cohort, masks = cohort_of(network, (SEED,), images()), masks_of(network, (SEED,))
    needs = CRITERIA[criterion].needs
    found = gather(
        set(needs),
        network,
        (SEED,),
        cohort.weights,
        cohort.buffers,
        network.masks(masks),
        feed=cohort.feed,
        sample=sample,
        input_shape=SHAPE,
    )
    weights = cohort.weights.masked_fill(~network.masks(masks), 0.0)
    module = convolutional().double()
    module.load_state_dict(
        {
            **{name: view[0].double() for name, view in network.layout.views(weights).items()},
            **{name: buffer[0] for name, buffer in cohort.buffers.items()},
        }
    )
    names = [tensor.name for tensor in network.prunable]
    return module, {name: CRITERIA[criterion].score(*(found[need][name] for need in needs))[0] for name in names}


def close(found: Tensors, expected: Tensors) -> bool:
    return all(
        torch.allclose(found[name].double(), expected[name], rtol=5e-4, atol=1e-5 * float(expected[name].abs().max()))
        for name in expected
    )


def test_snip_in_evaluation_mode_is_that_of_its_authors() -> None:
    """|w dL/dw| of `module.eval()`, as snip-public (is_train=False) and Synaptic-Flow have it."""
    for mode, other in (("eval", "train"), ("train", "eval")):
        sample = Sample(examples=50, mode=mode)
        module, found = module_and_scores("snip", sample)
        inputs, labels = sample_of(sample)
        results = {}
        for name in (mode, other):
            mine = copy.deepcopy(module).train(name == "train")
            functional.cross_entropy(mine(inputs), labels).backward()
            results[name] = {
                key: (w * w.grad).abs().detach()
                for key, w in mine.named_parameters()
                if key in found and w.grad is not None
            }
        assert close(found, results[mode]) and not close(found, results[other])


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_grasp_in_halves_is_that_of_its_authors(mode: str) -> None:
    """GraSP.py, line by line: sorted by class; the gradients of both halves added; each half's own differentiated along
    them. Pruned weights (here a third) have no gradient in it. Scores are theirs with the sign turned."""
    sample, temperature = Sample(None, 3, 200.0, mode=mode, halves=True), 200.0
    module, found = module_and_scores("grasp", sample)
    inputs, targets = sample_of(sample)
    order = sorted(range(len(targets)), key=lambda place: int(targets[place]))
    inputs, targets = inputs[order], targets[order]
    assert len(targets) == 12 and targets[:6].max() < targets[6:].min()
    net = module.train(mode == "train")
    weights = [dict(net.named_parameters())[name] for name in found]
    kept = [(w != 0).double() for w in weights]
    half_of = len(targets) // 2
    grad_w = None
    for half in (slice(0, half_of), slice(half_of, 2 * half_of)):
        loss = functional.cross_entropy(reset(net)(inputs[half]) / temperature, targets[half])
        grads = torch.autograd.grad(loss, weights)
        grad_w = list(grads) if grad_w is None else [a + b for a, b in zip(grad_w, grads, strict=True)]
    for half in (slice(0, half_of), slice(half_of, 2 * half_of)):
        loss = functional.cross_entropy(reset(net)(inputs[half]) / temperature, targets[half])
        grads = torch.autograd.grad(loss, weights, create_graph=True)
        z = sum((g.data * k * f).sum() for g, k, f in zip(grad_w, kept, grads, strict=True))
        z.backward()
    assert close(found, {name: w.data * w.grad for name, w in zip(found, weights, strict=True)})
    _, whole = module_and_scores("grasp", Sample(None, 3, 200.0, mode=mode))
    assert not close(found, {name: score.double() for name, score in whole.items()})


def reset(net: nn.Module) -> nn.Module:
    """Batch norm forgets the batch before: scores are taken from the statistics that the network came with."""
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.0
    return net


def kept_of(build, shape, classes: int, data, mode: str, density: float) -> torch.Tensor:
    """Flat mask of SNIP at initialisation."""
    network = network_of(build, shape, classes)
    cohort = Scored(
        network,
        (0,),
        initialise(network, (0,)),
        initial_buffers(network, (0,)),
        initialise(network, (0,)),
        {},
        make_feed(data, (0,), 40, data.transform("channel")),
        data.input_shape,
    )
    full = {tensor.name: torch.ones(1, *tensor.shape, dtype=torch.bool) for tensor in network.prunable}
    total = sum(tensor.size for tensor in network.prunable)
    masks = prune(cohort, CRITERIA["snip"], full, {"": round(density * total)}, sample=Sample(128, mode=mode), level=1)
    return torch.cat([mask.flatten() for mask in masks.values()])


def test_with_batch_norm_the_modes_keep_other_weights() -> None:
    """ResNet-20 at 10%, untrained: about half of what one mode keeps the other prunes. Without batch norm: nothing."""
    data = load_dataset("digits")
    shape = tuple(data.input_shape)

    def residual() -> nn.Module:
        return resnet(shape, 10, depth=20, width=8)

    train, evaluated = (kept_of(residual, shape, 10, data, mode, 0.1) for mode in ("train", "eval"))
    kept = int(train.sum())
    changed = kept - int((train & evaluated).sum())
    assert kept == int(evaluated.sum()) and 0.35 < changed / kept < 0.75

    def plain() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, 10))

    assert torch.equal(*(kept_of(plain, shape, 10, data, mode, 0.1) for mode in ("train", "eval")))


def test_which_criteria_have_a_mode_and_halves() -> None:
    assert {name for name in CRITERIA if CRITERIA[name].takes_mode} == {"snip", "grasp", "taylor"}
    assert {name for name in CRITERIA if CRITERIA[name].takes_halves} == {"grasp"}
    assert not EVIDENCE["fisher_diagonal"].mode  # one example has no batch statistics


def test_what_is_not_said_is_no_part_of_the_id() -> None:
    settings = ["pruning.criterion=grasp", "pruning.when=at_initialisation", "pruning.scope=global"]
    settings += ["pruning.fraction=0.2", "rewinding.kind=init"]
    plain = load_experiment("smoke", settings)
    assert set(plain.deciding()["pruning"]["scoring"]) == {"examples", "per_class", "batch_size", "temperature"}
    ids = {
        load_experiment("smoke", [*settings, *more]).id
        for more in (
            [],
            ["pruning.scoring.mode=train", "pruning.scoring.halves=false"],
            ["pruning.scoring.mode=eval"],
            ["pruning.scoring.halves=true"],
        )
    }
    assert plain.id in ids and len(ids) == 3
