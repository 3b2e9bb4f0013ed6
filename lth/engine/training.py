"""Training a cohort: seeds stacked as one tensor program, masks kept exactly, everything resumable at any step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from lth.engine.evaluation import evaluate
from lth.engine.feed import Batches, Feed
from lth.engine.named_tensors import mapped, named_tensors, structured
from lth.engine.network import Network
from lth.engine.programs import choose_program
from lth.engine.recipe import Recipe, learning_rate
from lth.engine.result import Trained, trained_of
from lth.engine.state import CohortState, Ended, Start, begun, chosen
from lth.engine.updates import make_updates
from lth.engine.watchers import Change, EarlyStop, Evaluation, RewindPoint, Watcher
from lth.errors import LthError
from lth.objectives import score_of


class CohortTraining:
    """One training of a cohort, from its start to any step; `advance` it, `checkpoint` it, ask for its `result`.

    Everything that it is at a step lies in `state`. Pruned weights start at exactly zero and stay there: see `updates`.
    """

    def __init__(self, network: Network, recipe: Recipe, feed: Feed, start: Start, stack: bool | None = None) -> None:
        self.network = network
        self.recipe = recipe
        self.feed = feed
        self.score = score_of(recipe.objective)
        self.watchers: tuple[Watcher, ...] = (EarlyStop(), *recipe.watchers)
        self.program = choose_program(network, recipe.objective, feed.seeds, feed.device, recipe.precision, stack)
        self.batches = Batches(feed, recipe.batch_size, recipe.copy)
        self.sees_gradients = _that_have(self.watchers, "on_gradient")
        self.sees_steps = _that_have(self.watchers, "on_step")
        self.sees_epochs = _that_have(self.watchers, "on_epoch")
        # Biases, norms and padding are no part of a mask that is stored.
        self.never_pruned = network.masks(
            {tensor.name: torch.zeros(1, *tensor.shape, dtype=torch.bool) for tensor in network.prunable}
        ).to(feed.device)
        # Nobody's training ends before its rewind point is kept: what later levels start from.
        self.ends_from = max((each.step for each in self.watchers if isinstance(each, RewindPoint)), default=0)
        # Host seconds; on a GPU, where nothing waits, they are those of launching the work.
        self.evaluation_seconds = 0.0

        self.state = begun(start, self._score_sums(), feed.device)
        self.gradient = torch.zeros_like(self.state.weights)
        self._make_updates()
        self.state.kept = {watcher.name: watcher.begin(self.state) for watcher in self.watchers}
        self.ending = torch.zeros(len(feed.seeds), dtype=torch.bool, device=feed.device)
        # Known on the host, so that no step waits for a GPU.
        self.some_end = self.all_ended = False
        self._ask(watcher.on_step(self.state, self.state.kept[watcher.name]) for watcher in self.sees_steps)
        self._evaluate()

    def _score_sums(self) -> int:
        """How many sums the score is made of."""
        if self.score.sums is None:
            return 0
        outputs = torch.zeros(1, 1, max(self.network.classes, 1), device=self.feed.device)
        return len(self.score.sums_of(outputs, torch.zeros(1, 1, dtype=torch.int64, device=self.feed.device)))

    def _make_updates(self) -> None:
        """The optimizer over the state's weights and mask; its moments are the state's."""
        state = self.state
        self.updates = make_updates(self.recipe.optimizer, state.weights, self.gradient, state.mask)
        state.moments = self.updates.moments

    @property
    def step(self) -> int:
        """Optimizer steps taken."""
        return self.state.step

    @property
    def weights(self) -> torch.Tensor:
        """Rows [seeds, width] as they are now."""
        return self.state.weights

    @property
    def buffers(self) -> Mapping[str, torch.Tensor]:
        """Buffers [seeds, *shape] as they are now."""
        return self.state.buffers

    def advance(
        self,
        until: int | None = None,
        on_progress: Callable[[int], None] | None = None,
        on_step: Callable[[], None] | None = None,
    ) -> CohortTraining:
        """Train up to step `until` (the recipe's end if not given), or until watchers have ended every seed.

        `on_progress(step)` follows every evaluation; `on_step()` every step, when the training can be checkpointed.
        """
        last = self.recipe.steps if until is None else min(until, self.recipe.steps)
        while self.state.step < last and not self.all_ended:
            state = self.state
            inputs, targets = self.batches(state.step)
            loss, sums = self.program.gradients(state, inputs, targets, self.gradient)
            for watcher in self.sees_gradients:
                watcher.on_gradient(state, state.kept[watcher.name], self.gradient)
            if self.recipe.clip_norm is not None:
                clip(self.gradient, state.mask, self.recipe.clip_norm)
            self.updates.step(learning_rate(self.recipe, state.step))
            state.loss_sum += loss
            state.score_sums += sums
            state.step += 1
            if self.sees_steps:
                self._ask(watcher.on_step(state, state.kept[watcher.name]) for watcher in self.sees_steps)
            if self.sees_epochs and state.step % self.batches.per_epoch == 0:
                self._ask(watcher.on_epoch(state, state.kept[watcher.name]) for watcher in self.sees_epochs)
            if state.step % self.recipe.evaluate_every == 0 or state.step == self.recipe.steps:
                self._evaluate()
                if on_progress:
                    on_progress(state.step)
            if on_step:
                on_step()
        return self

    def _ask(self, changes: Iterator[Change | None]) -> None:
        """Do what watchers ask for."""
        for change in changes:
            if change is None:
                continue
            if change.end is not None:
                self.ending |= change.end
                self.some_end = True
            if change.mask is not None:
                if not any(watcher.changes_mask for watcher in self.watchers):
                    raise LthError("a watcher asked for another mask; say `changes_mask = True` in its class")
                self._change_mask(change.mask)

    def _change_mask(self, mask: torch.Tensor) -> None:
        """From now on this mask: what it removes and what it adds are zero, with moments of zero.

        Of seeds that lose weights, early stop is searched anew: it is a network's with the mask that it is stored with.
        """
        mask = mask | self.never_pruned
        state, kept = self.state, self.state.mask & mask
        rows = self.updates.moment_rows()
        best = state.kept[EarlyStop.name]
        best["loss"].masked_fill_((state.mask & ~mask).any(1), torch.inf)
        best["weights"].masked_fill_(~mask, 0.0)  # where no evaluation follows
        state.weights.masked_fill_(~kept, 0.0)
        state.mask = mask.clone()
        self._make_updates()
        self.updates.take_rows({name: row.masked_fill(~kept, 0.0) if row.ndim else row for name, row in rows.items()})

    def _evaluate(self) -> None:
        begun_at = time.perf_counter()
        state, recipe = self.state, self.recipe
        loss, score = evaluate(self.program, recipe.objective, state.weights, state.buffers, self.feed, "validation")
        examples = (state.step - state.measured_at) * recipe.batch_size
        training = state.ended.at < 0 if state.ended is not None else torch.ones_like(state.diverged)
        if examples:
            train_loss = state.loss_sum / examples
            # in single precision, as it has always been stored
            train_score = self.score.from_sums(state.score_sums, examples).float().double()
            state.diverged |= ~torch.isfinite(train_loss) & training
        else:
            train_loss = torch.full_like(loss, torch.nan)
            train_score = train_loss
        state.diverged |= ~torch.isfinite(loss) & training
        state.curve = torch.cat([state.curve, torch.stack([train_loss, train_score, loss, score]).unsqueeze(0)])
        state.evaluated = torch.cat([state.evaluated, torch.tensor([state.step])])
        state.loss_sum = torch.zeros_like(state.loss_sum)
        state.score_sums = torch.zeros_like(state.score_sums)
        state.measured_at = state.step
        measured = Evaluation(loss, score)
        self._ask(watcher.on_evaluation(state, state.kept[watcher.name], measured) for watcher in self.watchers)
        if self.some_end and state.step >= self.ends_from:
            self._end()
        self.evaluation_seconds += time.perf_counter() - begun_at

    def _end(self) -> None:
        """Put aside what is left of the seeds whose training ends here; the others train on."""
        state = self.state
        if state.ended is None:
            at = torch.full((state.seeds,), -1, dtype=torch.int64, device=state.weights.device)
            now = Ended(at, state.weights, state.mask, state.buffers, state.kept)
            state.ended = mapped(now, torch.clone)
        fresh = self.ending & (state.ended.at < 0)
        at = torch.where(fresh, state.step, state.ended.at)
        state.ended = chosen(fresh, Ended(at, state.weights, state.mask, state.buffers, state.kept), state.ended)
        self.all_ended = bool((at >= 0).all())

    def result(self) -> Trained:
        """What came of the training so far (call it at the end)."""
        return trained_of(self.state)

    def checkpoint(self) -> dict[str, torch.Tensor]:
        """Everything that a restart needs, as plain tensors on the host: the state by name."""
        saved = {"state/" + name: tensor for name, tensor in named_tensors(self.state).items()}
        return {name: tensor.detach().cpu().clone() for name, tensor in {**saved, "ending": self.ending}.items()}

    def restore(self, saved: Mapping[str, torch.Tensor]) -> CohortTraining:
        """Continue from a checkpoint of the same network, recipe and seeds; to the bit on a CPU."""
        device = self.feed.device
        there = {
            name.removeprefix("state/"): tensor if name == "state/evaluated" else tensor.to(device, copy=True)
            for name, tensor in saved.items()
            if name.startswith("state/")
        }
        self.state = structured(CohortState, there)
        for watcher in self.watchers:  # one that keeps nothing has left no tensor
            self.state.kept.setdefault(watcher.name, {})
        self.ending = saved["ending"].to(device, copy=True)
        self.some_end = bool(saved["ending"].any())
        self.all_ended = self.state.ended is not None and bool((self.state.ended.at >= 0).all())
        moments = self.state.moments
        self._make_updates()
        self.updates.restore(moments)
        return self


def clip(gradient: torch.Tensor, mask: torch.Tensor, most: float) -> None:
    """Shorten the gradient of every seed [seeds, width] to the norm `most`, in place, as torch's `clip_grad_norm_`
    does; pruned weights have none. Row by row, so that a seed's norm is the same in any cohort."""
    for row, kept in zip(gradient, mask, strict=True):
        row.masked_fill_(~kept, 0.0)
        row.mul_(torch.clamp(most / (torch.linalg.vector_norm(row) + 1e-6), max=1.0))


def _that_have(watchers: Sequence[Watcher], method: str) -> tuple[Watcher, ...]:
    """The watchers that do something there."""
    return tuple(each for each in watchers if getattr(type(each), method) is not getattr(Watcher, method))
