"""The registry of criteria. A criterion is only a score; low scores are pruned, and who wins is decided in `scopes`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch

from lth.engine.evidence import EVIDENCE, Sample
from lth.errors import InvalidExperiment
from lth.registry import Registry

Score = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Criterion:
    """A score and what it is made of.

    `score` maps its evidence, tensors [seeds, *shape] of one prunable weight tensor, to scores of that shape. `needs`
    names the evidence: the parameters of the function. `rounds` and `sample` are the published settings. `trained`: it
    scores what a training did, so that there is nothing to score at initialisation.
    """

    score: Score
    needs: tuple[str, ...]
    rounds: int
    sample: Sample
    trained: bool

    @property
    def needs_data(self) -> bool:
        """Whether it looks at training examples when it scores."""
        return any(EVIDENCE[need].data for need in self.needs)

    @property
    def needs_temperature(self) -> bool:
        return any(EVIDENCE[need].temperature for need in self.needs)

    @property
    def takes_mode(self) -> bool:
        """Whether it matters in which mode the network is run."""
        return any(EVIDENCE[need].mode for need in self.needs)

    @property
    def takes_halves(self) -> bool:
        """Whether its sample can be scored in two halves."""
        return any(EVIDENCE[need].halves for need in self.needs)

    @property
    def needs_batches(self) -> bool:
        """Whether it matters into which batches the examples are cut."""
        return any(EVIDENCE[need].batches for need in self.needs)

    @property
    def watchers(self) -> tuple[str, ...]:
        """The watchers that gather some of its evidence while a network trains, by name."""
        return tuple(watcher for need in self.needs if (watcher := EVIDENCE[need].watcher) is not None)


CRITERIA: Registry[Criterion] = Registry("criterion", Criterion)


def register_criterion(
    name: str,
    description: str,
    *,
    rounds: int = 1,
    examples: int | None = None,
    per_class: int | None = None,
    temperature: float = 1.0,
    trained: bool = False,
) -> Callable[[Score], Score]:
    """Decorator: make a score known by `name`. The parameters of the function say what it needs.

        @register_criterion("snip", "|w dL/dw| on one batch", examples=128)
        def snip(weights, gradient):
            return (weights * gradient).abs()

    Any of the names in `lth.engine.evidence.EVIDENCE` can be asked for. `rounds`, `examples` or `per_class`, and
    `temperature` are what the criterion's authors published; an experiment may say otherwise.

    Raises:
        InvalidExperiment: a parameter is no evidence, or another criterion has that name already.
    """

    def register(score: Score) -> Score:
        needs = tuple(inspect.signature(score).parameters)
        for need in needs:
            if need not in EVIDENCE:
                known = ", ".join(sorted(EVIDENCE))
                raise InvalidExperiment(f"criterion {name!r} asks for {need!r}, which is no evidence; there is {known}")
        count = 128 if examples is None and per_class is None else examples
        criterion = Criterion(score, needs, rounds, Sample(count, per_class, temperature), trained)
        CRITERIA.add(name, criterion, description, score)
        return score

    return register


def criterion_names() -> dict[str, str]:
    """Every registered criterion and its one-line description."""
    return CRITERIA.names()
