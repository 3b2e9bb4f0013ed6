"""The registry of evidence: what a criterion can ask for by the name of a parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from lth.engine.evidence.cohort import OneSeed, ScoredCohort
from lth.registry import Registry

OfSeed = Callable[[OneSeed], Mapping[str, torch.Tensor]]
OfCohort = Callable[[ScoredCohort], torch.Tensor]


@dataclass(frozen=True)
class Evidence:
    """How one kind of evidence is had, and what it needs.

    Either `of_seed` computes it for one seed, a tensor of its shape for each of `one.names`, from that seed alone; or
    `of_cohort` has it as rows [seeds, width]. `data`: it looks at examples of the training split (`one.examples()`,
    `one.batches()`). `batches`: it matters into which batches they are cut. `temperature`: it divides the outputs by
    the sample's temperature. `mode`: it is had in the sample's mode, training or evaluation. `halves`: it adds both
    halves of a sample that is cut in two. `watcher`: a training gathers it, through the watcher of that name.
    """

    of_seed: OfSeed | None = None
    of_cohort: OfCohort | None = None
    data: bool = False
    batches: bool = False
    temperature: bool = False
    watcher: str | None = None
    mode: bool = False
    halves: bool = False


EVIDENCE: Registry[Evidence] = Registry("evidence", Evidence)


def register_evidence(
    name: str,
    description: str,
    *,
    data: bool = False,
    batches: bool = False,
    temperature: bool = False,
    mode: bool = False,
    halves: bool = False,
) -> Callable[[OfSeed], OfSeed]:
    """Decorator: make evidence that is computed seed by seed known by `name`; see `Evidence`.

        @register_evidence("ranks", "each weight's place among its layer's magnitudes, from 0")
        def ranks(one):
            order = {name: one.parameters[name].abs().flatten().argsort().argsort() for name in one.names}
            return {name: place.view_as(one.parameters[name]) for name, place in order.items()}

    Raises InvalidExperiment if other evidence has that name already.
    """

    def register(of_seed: OfSeed) -> OfSeed:
        evidence = Evidence(of_seed, None, data, batches, temperature, mode=mode, halves=halves)
        EVIDENCE.add(name, evidence, description, of_seed)
        return of_seed

    return register


def register_rows(name: str, description: str, *, watcher: str | None = None) -> Callable[[OfCohort], OfCohort]:
    """Decorator: make evidence that a cohort has already known by `name`: rows [seeds, width], from a `watcher` of the
    training if one is named.

        @register_rows("largest", "the largest magnitude that each weight ever had", watcher="largest")
        def largest(cohort):
            return cohort.gathered("largest")

    Raises InvalidExperiment if other evidence has that name already.
    """

    def register(of_cohort: OfCohort) -> OfCohort:
        EVIDENCE.add(name, Evidence(None, of_cohort, watcher=watcher), description, of_cohort)
        return of_cohort

    return register
