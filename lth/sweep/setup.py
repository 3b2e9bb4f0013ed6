"""From an experiment and its data to what the engine needs, and every check that needs the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from lth.arms import ARMS
from lth.engine import Network, Recipe, Sample
from lth.engine.watchers import WATCHERS, RewindPoint, Watcher
from lth.errors import InvalidExperiment
from lth.experiment import Experiment, to_steps
from lth.models import PrunableTensor
from lth.pruning import CRITERIA, SCOPES, Criterion, ladder, layer_fraction
from lth.rewinding import Retraining, stretched
from lth.structured import UnitGroup, alive_units, check_units, unit_groups, unit_masks
from lth.sweep.networks import DataFacts, network_of
from lth.sweep.sources import source_of

__all__ = ["DataFacts", "Setup", "resolve", "resolve_recipe"]


@dataclass(frozen=True)
class Setup:
    """An experiment made concrete for a data set.

    `recipe` is how the dense network and fresh weights are trained, `retraining` how a ticket is. `counts[level]` is
    what remains, by tensor or group: weights, or units where whole units are removed; where tickets are another
    experiment's, what there is at most. `rounds` and `sample` are how
    the criterion scores. `groups` are the network's units where whole units are removed, else there are none.
    `elsewhere` are the weights of dense and convolutional layers that are never pruned. `gathered` is the evidence that
    trainings of tickets gather for the criterion.
    """

    network: Network
    recipe: Recipe
    retraining: Retraining
    counts: tuple[dict[str, int], ...]
    rounds: int
    sample: Sample
    input_shape: tuple[int, ...]
    groups: tuple[UnitGroup, ...]
    elsewhere: tuple[PrunableTensor, ...]
    gathered: tuple[str, ...] = ()

    @property
    def weights_total(self) -> int:
        """Prunable weights of the dense network."""
        return sum(tensor.size for tensor in self.network.prunable)

    def mask_rows(self, masks: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """bool [seeds, width] of masks [seeds, *shape]; of removed units biases and norms are masked, too."""
        if self.groups:
            shapes = {slot.name: slot.shape for slot in self.network.layout.slots}
            masks = {**unit_masks(self.groups, alive_units(self.groups, masks), shapes), **masks}
        return self.network.masks(masks)

    def start_step(self, arm: str, level: int) -> int:
        """The step at which an arm's training begins: not 0 after late rewinding, the last where nothing is trained."""
        return 0 if level == 0 or ARMS[arm].fresh else self.retraining.step

    def recipe_of(self, arm: str, level: int, behind: int) -> Recipe:
        """How an arm is trained at a level; `behind` trainings led to the ticket of that level."""
        how = ARMS[arm]
        if level == 0 or how.fresh:
            again = (behind - 1) * (self.retraining.recipe.steps - self.retraining.step)
            recipe = stretched(self.recipe, self.recipe.steps + again) if how.whole_budget else self.recipe
        else:
            recipe = self.retraining.recipe
        unwanted = [*(["rewind_point"] if level else []), *(self.gathered if arm != "ticket" else ())]
        return recipe.watched_by(*self.recipe.watchers).not_watched_by(*unwanted)


def resolve(experiment: Experiment, facts: DataFacts) -> Setup:
    """Resolve durations, network and ladder; raises InvalidExperiment before anything is trained."""
    return _setup(experiment.model_dump_json(), facts)


@lru_cache(maxsize=8)
def _setup(text: str, facts: DataFacts) -> Setup:
    experiment = Experiment.model_validate_json(text)
    built = network_of(experiment, facts)
    network, elsewhere = built.network, built.elsewhere
    tensors = network.prunable
    recipe = resolve_recipe(experiment, facts.examples)
    per_epoch = (facts.examples - experiment.dataset.validation) // experiment.training.batch_size
    retraining = experiment.rewinding.resolve(per_epoch).retraining(recipe.not_watched_by("rewind_point"))
    pruning = experiment.pruning
    fractions = [
        layer_fraction(tensor, pruning.fraction.dense, pruning.fraction.conv, pruning.output_factor)
        for tensor in tensors
    ]
    if pruning.levels and not any(fractions):
        raise InvalidExperiment(
            "pruning.fraction prunes nothing in this network: its layers are "
            f"{', '.join(sorted({tensor.kind for tensor in tensors}))}; set their fraction"
        )
    if pruning.remove == "units":
        groups, counts = _units(experiment, network, facts.input_shape)
        return Setup(network, recipe, retraining, tuple(counts), 1, Sample(), facts.input_shape, groups, elsewhere)
    if source_of(experiment).elsewhere:  # the ladder is that of the tickets
        counts = [{tensor.name: tensor.size for tensor in tensors}] * (pruning.levels + 1)
    else:
        counts = ladder(
            tensors, fractions, pruning.levels, pruning.scope, pruning.densities, pruning.allow_empty_layers
        )
    criterion = CRITERIA[pruning.criterion]
    return Setup(
        network,
        recipe,
        retraining,
        tuple(counts),
        pruning.rounds or criterion.rounds,
        _sample(experiment, criterion, facts),
        facts.input_shape,
        (),
        elsewhere,
        experiment.pruning.watchers,
    )


def _units(
    experiment: Experiment, network: Network, input_shape: tuple[int, ...]
) -> tuple[tuple[UnitGroup, ...], list[dict[str, int]]]:
    """The groups of units that can be removed, and how many remain at each level."""
    pruning = experiment.pruning
    kinds = {tensor.name: tensor.kind for tensor in network.prunable}
    found = unit_groups(network.module, input_shape, list(kinds))
    as_tensors = [PrunableTensor(group.name, (group.units,), kinds[group.name], False) for group in found]
    fractions = [layer_fraction(tensor, pruning.fraction.dense, pruning.fraction.conv, 1.0) for tensor in as_tensors]
    groups = tuple(group for group, fraction in zip(found, fractions, strict=True) if fraction)
    if pruning.levels and not groups:
        raise InvalidExperiment("pruning.fraction removes no unit of this network; set the fraction of its layers")
    if SCOPES[pruning.scope].rule is not None and len({fraction for fraction in fractions if fraction}) > 1:
        raise InvalidExperiment(
            f"pruning.scope {pruning.scope!r} lets the units of all layers compete, so they need one "
            "fraction: give dense and conv the same one, or leave one empty"
        )
    chosen = [tensor for tensor, fraction in zip(as_tensors, fractions, strict=True) if fraction]
    counts = ladder(
        chosen, [fraction for fraction in fractions if fraction], pruning.levels, pruning.scope, allow_empty=True
    )
    for level, kept in enumerate(counts):
        for name, count in kept.items():
            if count < (1 if name else len(groups)):
                left = f"no unit of {name!r}" if name else f"{count} units for {len(groups)} groups, each needing one"
                raise InvalidExperiment(
                    f"level {level} would leave {left}; use at most {level - 1} levels or a smaller pruning.fraction"
                )
    check_units(groups, pruning.criterion)
    return groups, counts


def _sample(experiment: Experiment, criterion: Criterion, facts: DataFacts) -> Sample:
    """The published sample of the criterion, with what the experiment says instead."""
    scoring = experiment.pruning.scoring
    sample = criterion.sample
    if scoring.examples is not None or scoring.per_class is not None:
        sample = replace(sample, examples=scoring.examples, per_class=scoring.per_class)
    left = facts.examples - experiment.dataset.validation
    if criterion.needs_data and (sample.examples or 0) > left:
        if scoring.examples is not None:
            raise InvalidExperiment(f"pruning.scoring.examples is {sample.examples}, but the training split has {left}")
        sample = replace(sample, examples=left)
    return replace(
        sample,
        temperature=scoring.temperature or sample.temperature,
        batch_size=scoring.batch_size or sample.batch_size,
        mode=scoring.mode,
        halves=scoring.halves,
    )


def resolve_recipe(experiment: Experiment, examples: int) -> Recipe:
    """The experiment's training in plain steps, for a training set of `examples` before the validation split."""
    training, dataset = experiment.training, experiment.dataset
    left = examples - dataset.validation
    if left < 1:
        raise InvalidExperiment(
            f"dataset.validation is {dataset.validation}, but the training set has only {examples} "
            "examples; hold out fewer"
        )
    if training.batch_size > left:
        raise InvalidExperiment(
            f"training.batch_size is {training.batch_size}, larger than the {left} training "
            "examples that the validation split leaves; use a smaller batch"
        )
    per_epoch = left // training.batch_size
    steps = to_steps(training.duration, per_epoch)
    rewind = experiment.rewinding.resolve(per_epoch).kept_step
    schedule = training.schedule.resolve(per_epoch)
    recipe = Recipe(
        optimizer=training.optimizer.resolve(per_epoch),
        schedule=schedule,
        batch_size=training.batch_size,
        steps=steps,
        evaluate_every=to_steps(training.evaluate_every, per_epoch),
        precision=training.precision,
        objective=experiment.objective.resolve(per_epoch),
        clip_norm=training.clip_norm,
        watchers=_watchers(experiment, rewind, per_epoch),
    )
    _check_order("training.evaluate_every", recipe.evaluate_every, steps)
    _check_order("training.schedule.warmup", recipe.schedule.warmup, steps)
    milestones = getattr(schedule, "milestones", ())
    if list(milestones) != sorted(set(milestones)):
        raise InvalidExperiment(f"training.schedule.milestones must increase; in steps they are {list(milestones)}")
    if rewind is not None:
        _check_order("rewinding.step", rewind, steps - 1)
    return recipe


def _watchers(experiment: Experiment, rewind: int | None, per_epoch: int) -> tuple[Watcher, ...]:
    """The user's own, the evidence that the criterion needs, and the rewind point."""
    found: dict[str, Watcher] = {}
    for part in experiment.training.watchers:
        found[part.kind] = part.resolve(per_epoch)
    for name in experiment.pruning.watchers:
        found.setdefault(name, WATCHERS[name]())
    if rewind is not None:
        found["rewind_point"] = RewindPoint(step=rewind)
    return tuple(found.values())


def _check_order(field: str, value: int, limit: int) -> None:
    if value > limit:
        raise InvalidExperiment(
            f"{field} is step {value}, past step {limit}, the last one possible in this training; make it smaller"
        )
