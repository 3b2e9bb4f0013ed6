"""Whether a training step and an evaluation, repeated, come out the same: what training again and resuming rest on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lth.engine import Network, Recipe, Start, choose_program
from lth.engine.feed import Feed
from lth.engine.network import layers_stay_in_evaluation
from lth.engine.state import begun
from lth.errors import InvalidExperiment, in_one_line
from lth.inspection.comparison import difference
from lth.streams import own_randomness, watched_randomness

Seen = dict[str, torch.Tensor]
FAR = 10**6
"""How far a counter is turned on, to see whether anything reads it."""


class Copy:
    """A copy of a network that steps and evaluates as the engine would, on a few examples of the feed's one seed.

    A step begins from given weights [1, width] and the initial buffers, and leaves both as they were.
    """

    def __init__(
        self, network: Network, module: nn.Module, recipe: Recipe, feed: Feed, buffers: dict[str, torch.Tensor]
    ) -> None:
        self.in_evaluation = tuple(layers_stay_in_evaluation(module))
        self.module = module
        self.network = replace(network, module=module)
        self.recipe = recipe
        self.feed = feed
        self.examples = min(recipe.batch_size, 2)
        self.buffers = buffers
        self.program = choose_program(self.network, recipe.objective, feed.seeds, feed.device, recipe.precision)

    def step(self, weights: torch.Tensor, batch: int) -> Seen:
        """Loss, gradients and buffers after a step on batch number `batch`."""
        size = self.examples
        order = torch.arange(batch * size, (batch + 1) * size, device=self.feed.device) % self.feed.train.shape[1]
        inputs, targets = self.feed.batch(self.feed.train[:, order])
        state = begun(Start(weights, self.buffers, torch.ones_like(weights, dtype=torch.bool)), 0, self.feed.device)
        gradient = torch.zeros_like(state.weights)
        loss, _ = self.program.gradients(state, inputs, targets, gradient)
        gradients = {f"gradient of {name}": view.clone() for name, view in self.network.layout.views(gradient).items()}
        return {"loss": loss.clone(), **gradients, **state.buffers}

    def by_itself(self, training: bool) -> Seen:
        """What the module answers without the engine around it, which gives back what is kept in plain attributes."""
        module, seed = self.module.train(training), self.feed.seeds[0]
        inputs, _ = self.feed.batch(self.feed.train[:, : self.examples])
        with torch.no_grad(), own_randomness(seed, "inspection", device=self.feed.device):
            before = {name: buffer.clone() for name, buffer in module.named_buffers()}
            answer = module.to(self.feed.device)(inputs[0])
            for name, buffer in module.named_buffers():
                buffer.copy_(before[name])
        return {"answer": answer.clone()}

    def evaluate(self, weights: torch.Tensor) -> Seen:
        """Outputs for two examples in evaluation mode."""
        inputs, _ = self.feed.batch(self.feed.validation[:, :2])
        buffers = {name: buffer.to(self.feed.device).clone() for name, buffer in self.buffers.items()}
        return {"answer": self.program.outputs(weights, buffers, inputs).clone()}


def check_repetition(copy: Copy, other: Copy, weights: torch.Tensor) -> Seen:
    """What a first step sees; `copy` and `other` are two copies of one network, `weights` [1, width] its initial ones.

    Raises InvalidExperiment where a step or an evaluation is not possible, not finite, or depends on those before it.
    """
    moved = weights * 1.01
    try:
        with watched_randomness() as watched:
            evaluated = copy.evaluate(weights)
            first = copy.step(weights, 0)
    except Exception as error:
        raise InvalidExperiment(_why_no_step(error, copy.examples)) from None
    if watched.drawn and not copy.network.draws_randomness:
        raise InvalidExperiment(
            "it draws random numbers for these examples but not for blank ones; let it draw for all of them"
        )
    if not bool(torch.isfinite(evaluated["answer"]).all()):
        raise InvalidExperiment("it is not finite at the start: its answer in evaluation mode; mend its forward")
    _check_gradients(copy.network, first)
    between = copy.step(moved, 1)
    keeps = "it must keep nothing from one pass to the next but its buffers"
    for again, before, what in (
        (copy.step(weights, 0), first, "a training step"),
        (copy.evaluate(weights), evaluated, "an evaluation"),
        *_by_itself(other),
        (other.step(moved, 1), between, "a training step"),
        (other.step(weights, 0), first, "a training step"),
        (other.evaluate(weights), evaluated, "an evaluation"),
    ):
        different = difference(before, again)
        if different is not None:
            raise InvalidExperiment(
                f"its forward pass is not repeatable: {what} run twice from one seed has another "
                f"{different.strip(chr(39))}; {keeps}, and draw from torch's global generator, numpy.random or random"
            )
    _check_counters(copy, weights, first, evaluated)
    return first


def _by_itself(copy: Copy) -> list[tuple[Seen, Seen, str]]:
    evaluated, trained = copy.by_itself(training=False), copy.by_itself(training=True)
    return [
        (copy.by_itself(training=True), trained, "a training step"),
        (copy.by_itself(training=False), evaluated, "an evaluation"),
    ]


def _why_no_step(error: Exception, examples: int) -> str:
    if isinstance(error, RuntimeError) and "does not require grad" in str(error):
        return (
            "no gradient of the loss reaches its weights: its outputs are detached, computed under no_grad, or chosen "
            "(argmax, rounding); mend its forward"
        )
    what = f"{examples} example{'s' * (examples > 1)}"
    return f"a training step on {what} fails: {in_one_line(error)}; mend its forward"


def _check_gradients(network: Network, seen: Seen) -> None:
    for name, tensor in seen.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InvalidExperiment(f"it is not finite at the start: {name} of a first step; mend its forward")
    if not any(bool(tensor.any()) for name, tensor in seen.items() if name.startswith("gradient of ")):
        raise InvalidExperiment("no gradient of the loss reaches its weights: all are zero; mend its forward")


def _check_counters(copy: Copy, weights: torch.Tensor, step: Seen, evaluated: Seen) -> None:
    """Turn on what has counted while it ran: nothing may read it."""
    before = {(id(owner), key): owner[key] for _, owner, key in _numbers(copy.module)}
    copy.step(weights, 0)
    copy.evaluate(weights)
    for name, owner, key in list(_numbers(copy.module)):
        value = owner[key]
        if before.get((id(owner), key), value) == value:
            continue
        for far in (value + FAR, value - FAR):
            owner[key] = far
            try:
                same = difference(step, copy.step(weights, 0)) is None
                same = same and difference(evaluated, copy.evaluate(weights)) is None
            except Exception:
                same = False
            finally:
                owner[key] = value
            if not same:
                raise InvalidExperiment(
                    f"its forward pass counts in {name} and depends on the count, which no checkpoint keeps; "
                    "make it a buffer, or leave it out"
                )


def _numbers(module: nn.Module) -> Iterator[tuple[str, Any, Any]]:
    """Where plain numbers lie that code of the network can count in: attributes, and globals of its own modules."""
    owners: dict[str, dict[str, Any]] = {}
    for name, layer in module.named_modules():
        if not type(layer).__module__.startswith("torch."):
            owners[f"{name}." if name else ""] = vars(layer)
            owners[f"{type(layer).__module__}."] = vars(sys.modules[type(layer).__module__])
    for prefix, owner in owners.items():
        for key, value in list(owner.items()):
            places: list[tuple[Any, Any]] = [(owner, key)]
            if isinstance(value, list) and len(value) < 100:
                places = [(value, position) for position in range(len(value))]
            elif isinstance(value, dict) and not key.startswith("_"):
                places = [(value, each) for each in value]
            for place, where in places:
                if type(place[where]) in (int, float) and not str(key).startswith("__"):
                    yield repr(prefix + key), place, where
