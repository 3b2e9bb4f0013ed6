"""One inspection of a network before anything trains, on copies of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from lth.data.examples import TARGET
from lth.engine import EVIDENCE, Network, Recipe, Sample, exact_arithmetic, initial_buffers, initialise
from lth.engine.evaluation import EVALUATION_BATCH
from lth.engine.feed import Feed
from lth.inspection.batch_sizes import BatchSize, check_batch_sizes, in_batches
from lth.inspection.building import built_twice
from lth.inspection.comparison import same
from lth.inspection.evidence import check_evidence
from lth.inspection.repetition import Copy, check_repetition
from lth.models.calling import call
from lth.streams import own_randomness


@dataclass(frozen=True)
class Trials:
    """What a network will have to do: train by `recipe` on the `feed` of one seed, and be scored by evidence that is
    gathered (`needs`) on a `sample`."""

    recipe: Recipe
    feed: Feed
    needs: tuple[str, ...] = ()
    sample: Sample = field(default_factory=Sample)


@dataclass(frozen=True)
class Inspection:
    """What is to be known of a network that can be trained.

    `in_evaluation` are layers that its factory holds in evaluation mode, `without_gradient` prunable weights that the
    loss of a first step does not depend on, `draws_in_evaluation` whether its answers are random.
    """

    in_evaluation: tuple[str, ...] = ()
    without_gradient: tuple[str, ...] = ()
    draws_in_evaluation: bool = False


def inspect_network(network: Network, trials: Trials) -> Inspection:
    """Build it twice, run it on the batch sizes to come, step and evaluate twice, gather the evidence.

    Raises InvalidExperiment, in one line, for what cannot be done, or would not come out the same again.
    """
    recipe, feed = trials.recipe, trials.feed
    seed = feed.seeds[0]
    with exact_arithmetic(1, recipe.precision), own_randomness(seed, "inspection", device=feed.device):
        module, other = built_twice(network, seed)
        inputs, targets = (tensor[0] for tensor in feed.batch(feed.train[:, :8]))
        check_batch_sizes(network.build, inputs, network.classes, _sizes(trials))
        weights = initialise(network, (seed,)).to(feed.device)
        buffers = initial_buffers(network, (seed,))
        copy = Copy(network, module, recipe, feed, buffers)
        check_repetition(copy, Copy(network, other, recipe, feed, buffers), weights)
        check_evidence(trials.needs, copy.network, weights, buffers, recipe, feed, trials.sample)
        return Inspection(
            copy.in_evaluation,
            _without_gradient(copy, weights, inputs[: copy.examples], targets[: copy.examples]),
            _draws(copy, weights, inputs),
        )


def _tensors(copy: Copy, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """Parameters that gradients are asked of, and buffers, of one seed."""
    views = {name: view[0].clone().requires_grad_() for name, view in copy.network.layout.views(weights).items()}
    return {**views, **{name: buffer[0].to(weights.device).clone() for name, buffer in copy.buffers.items()}}


def _without_gradient(
    copy: Copy, weights: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor
) -> tuple[str, ...]:
    tensors, names = _tensors(copy, weights), [tensor.name for tensor in copy.network.prunable]
    outputs = call(copy.module.train(), tensors, inputs).float()
    loss = copy.recipe.objective.loss(outputs, targets)
    found = torch.autograd.grad(loss, [tensors[name] for name in names], allow_unused=True)
    return tuple(name for name, gradient in zip(names, found, strict=True) if gradient is None)


def _draws(copy: Copy, weights: torch.Tensor, inputs: torch.Tensor) -> bool:
    answers = []
    for draw in range(2):
        with torch.no_grad(), own_randomness(0, "inspection", draw):
            answers.append(call(copy.module.eval(), _tensors(copy, weights), inputs.clone()))
    return not same(*answers)


def _sizes(trials: Trials) -> list[BatchSize]:
    recipe, feed, sample = trials.recipe, trials.feed, trials.sample
    left, held, test = feed.train.shape[1], feed.validation.shape[1], len(feed.test_examples[TARGET])
    sizes = [BatchSize(recipe.batch_size, True, "training.batch_size")]
    for total, split in ((held, "validation"), (test, "test"), (left, "training")):
        sizes += in_batches(total, EVALUATION_BATCH, False, f"the {split} split")
    if any(EVIDENCE[need].data for need in trials.needs):
        scored = min(sample.examples or left, left) if sample.per_class is None else None
        if scored is not None:
            sizes += in_batches(scored, sample.batch_size, True, "pruning.scoring")
    return sizes
