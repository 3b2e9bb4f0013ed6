"""Training a cohort: seeds stacked as one tensor program, masks kept exactly, everything resumable at any step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from lth.engine.evaluation import evaluate
from lth.engine.feed import Batches, Feed
from lth.engine.network import Network
from lth.engine.programs import choose_program
from lth.engine.recipe import Recipe, learning_rate
from lth.engine.updates import make_updates


@dataclass(frozen=True)
class Start:
    """What a training starts from: weights [seeds, width], buffers, the mask (bool rows) and the step it resumes."""

    weights: torch.Tensor
    buffers: Mapping[str, torch.Tensor]
    mask: torch.Tensor
    step: int = 0


@dataclass(frozen=True)
class Curves:
    """Evaluations during a training; each array is [evaluations, seeds].

    Training figures are means over the batches since the evaluation before (NaN at the first); validation figures are
    over the whole validation split, losses in nats, accuracies as fractions.
    """

    steps: tuple[int, ...]
    train_loss: torch.Tensor
    train_accuracy: torch.Tensor
    validation_loss: torch.Tensor
    validation_accuracy: torch.Tensor


@dataclass(frozen=True)
class Trained:
    """A finished training. Early stop = the step of the lowest validation loss (the first, if several)."""

    weights: torch.Tensor
    buffers: dict[str, torch.Tensor]
    early_stop_step: torch.Tensor
    early_stop_weights: torch.Tensor
    early_stop_buffers: dict[str, torch.Tensor]
    rewind_weights: torch.Tensor | None
    rewind_buffers: dict[str, torch.Tensor] | None
    movement: torch.Tensor | None
    diverged: torch.Tensor
    curves: Curves


class CohortTraining:
    """One training of a cohort, from its start to any step; `advance` it, `checkpoint` it, ask for its `result`.

    Pruned weights start at exactly zero and stay there: see `updates`.
    """

    def __init__(self, network: Network, recipe: Recipe, feed: Feed, start: Start, stack: bool | None = None) -> None:
        self.network = network
        self.recipe = recipe
        self.feed = feed
        device = feed.device
        mask = start.mask.to(device)
        self.weights = start.weights.to(device).masked_fill(~mask, 0.0)
        self.buffers = {name: buffer.to(device).clone() for name, buffer in start.buffers.items()}
        self.gradient = torch.zeros_like(self.weights)
        self.updates = make_updates(recipe.optimizer, self.weights, self.gradient, mask)
        self.program = choose_program(network, feed.seeds, device, recipe.precision, stack)
        self.batches = Batches(feed, recipe.batch_size, recipe.crop_padding, recipe.flip, recipe.copy)
        self.step = start.step

        count = len(feed.seeds)
        zeros = partial(torch.zeros, count, device=device)
        self.running_loss = zeros(dtype=torch.float64)
        self.running_correct = zeros(dtype=torch.int64)
        self.running_steps = 0
        self.diverged = zeros(dtype=torch.bool)
        self.best_loss = torch.full((count,), torch.inf, dtype=torch.float64, device=device)
        self.best_step = torch.full((count,), start.step, dtype=torch.int64, device=device)
        self.best_weights = self.weights.clone()
        self.best_buffers = _copies(self.buffers)
        self.rewind: tuple[torch.Tensor, dict[str, torch.Tensor]] | None = None
        self.movement = torch.zeros_like(self.weights) if recipe.movement else None
        self.evaluated: list[int] = []
        self.curve: list[torch.Tensor] = []  # [4, seeds] each
        # Host seconds; on a GPU, where nothing waits, they are those of launching the work.
        self.evaluation_seconds = 0.0
        self._keep_rewind_point()
        self._evaluate()

    def advance(
        self,
        until: int | None = None,
        on_progress: Callable[[int], None] | None = None,
        on_step: Callable[[], None] | None = None,
    ) -> CohortTraining:
        """Train up to step `until` (the recipe's end if not given).

        `on_progress(step)` follows every evaluation; `on_step()` every step, when the training can be checkpointed.
        """
        last = self.recipe.steps if until is None else min(until, self.recipe.steps)
        while self.step < last:
            images, labels = self.batches(self.step)
            likelihood, correct = self.program.gradients(
                self.weights, self.buffers, images, labels, self.gradient, self.step
            )
            if self.movement is not None:  # of pruned weights it stays 0, as they are
                self.movement.addcmul_(self.weights, self.gradient, value=-1.0)
            self.updates.step(learning_rate(self.recipe, self.step))
            self.running_loss -= likelihood
            self.running_correct += correct
            self.running_steps += 1
            self.step += 1
            self._keep_rewind_point()
            if self.step % self.recipe.evaluate_every == 0 or self.step == self.recipe.steps:
                self._evaluate()
                if on_progress:
                    on_progress(self.step)
            if on_step:
                on_step()
        return self

    def _keep_rewind_point(self) -> None:
        if self.step == self.recipe.rewind_step:
            self.rewind = (self.weights.clone(), _copies(self.buffers))

    def _evaluate(self) -> None:
        begun = time.perf_counter()
        loss, accuracy = evaluate(self.program, self.weights, self.buffers, self.feed, "validation")
        examples = self.running_steps * self.recipe.batch_size
        if examples:
            train_loss, train_accuracy = self.running_loss / examples, self.running_correct / examples
            self.diverged |= ~torch.isfinite(train_loss)
        else:
            train_loss = torch.full_like(loss, torch.nan)
            train_accuracy = train_loss
        self.diverged |= ~torch.isfinite(loss)
        self.curve.append(torch.stack([train_loss, train_accuracy.double(), loss, accuracy]))
        self.evaluated.append(self.step)
        better = loss < self.best_loss
        self.best_loss = torch.where(better, loss, self.best_loss)
        self.best_step = self.best_step.masked_fill(better, self.step)
        torch.where(better.unsqueeze(1), self.weights, self.best_weights, out=self.best_weights)
        for name, best in self.best_buffers.items():
            best.copy_(torch.where(better.view(-1, *[1] * (best.ndim - 1)), self.buffers[name], best))
        self.running_loss = torch.zeros_like(self.running_loss)
        self.running_correct = torch.zeros_like(self.running_correct)
        self.running_steps = 0
        self.evaluation_seconds += time.perf_counter() - begun

    def result(self) -> Trained:
        """What came of the training so far (call it at the end)."""
        curve = torch.stack(self.curve).cpu()
        diverged = self.diverged | ~torch.isfinite(self.weights).all(1)
        rewind = self.rewind
        return Trained(
            weights=self.weights.detach().cpu(),
            buffers=_copies(self.buffers, "cpu"),
            early_stop_step=self.best_step.cpu(),
            early_stop_weights=self.best_weights.cpu(),
            early_stop_buffers=_copies(self.best_buffers, "cpu"),
            rewind_weights=rewind[0].cpu() if rewind else None,
            rewind_buffers=_copies(rewind[1], "cpu") if rewind else None,
            movement=None if self.movement is None else self.movement.cpu(),
            diverged=diverged.cpu(),
            curves=Curves(tuple(self.evaluated), *curve.unbind(1)),
        )

    def checkpoint(self) -> dict[str, torch.Tensor]:
        """Everything that a restart needs, as plain tensors on the host. Random streams need nothing: see `Batches`."""
        saved = {
            "step": torch.tensor([self.step, self.running_steps]),
            "weights": self.weights,
            "diverged": self.diverged,
            "running_loss": self.running_loss,
            "running_correct": self.running_correct,
            "best_loss": self.best_loss,
            "best_step": self.best_step,
            "best_weights": self.best_weights,
            "evaluated": torch.tensor(self.evaluated),
            "curve": torch.stack(self.curve),
            **{f"buffers/{name}": buffer for name, buffer in self.buffers.items()},
            **{f"best_buffers/{name}": buffer for name, buffer in self.best_buffers.items()},
        }
        if self.rewind:
            saved["rewind/weights"] = self.rewind[0]
            saved.update({f"rewind/buffers/{name}": buffer for name, buffer in self.rewind[1].items()})
        if self.movement is not None:
            saved["movement"] = self.movement
        saved.update({f"optimizer/{name}": value for name, value in self.updates.state().items()})
        return {name: tensor.detach().cpu().clone() for name, tensor in saved.items()}

    def restore(self, saved: Mapping[str, torch.Tensor]) -> CohortTraining:
        """Continue from a checkpoint of the same network, recipe and seeds; to the bit on a CPU."""
        self.step, self.running_steps = (int(value) for value in saved["step"])
        self.weights.copy_(saved["weights"])
        self.best_weights.copy_(saved["best_weights"])
        for name in ("diverged", "running_loss", "running_correct", "best_loss", "best_step"):
            setattr(self, name, saved[name].to(self.feed.device).clone())
        self.evaluated = [int(step) for step in saved["evaluated"]]
        self.curve = list(saved["curve"].to(self.feed.device).unbind(0))
        for name, buffer in self.buffers.items():
            buffer.copy_(saved[f"buffers/{name}"])
            self.best_buffers[name].copy_(saved[f"best_buffers/{name}"])
        if self.movement is not None:
            self.movement.copy_(saved["movement"])
        if "rewind/weights" in saved:
            self.rewind = (
                saved["rewind/weights"].to(self.feed.device).clone(),
                {name: saved[f"rewind/buffers/{name}"].to(self.feed.device).clone() for name in self.buffers},
            )
        self.updates.restore(
            {name.removeprefix("optimizer/"): value for name, value in saved.items() if name.startswith("optimizer/")}
        )
        return self


def _copies(tensors: Mapping[str, torch.Tensor], device: torch.device | str | None = None) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to(device or tensor.device, copy=True) for name, tensor in tensors.items()}
