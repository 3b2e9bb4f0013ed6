"""From an experiment and its data to what the engine needs, and every check that needs the data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

from lth.data import ImageData
from lth.engine import Network, Optimizer, Recipe, Schedule, describe
from lth.errors import InvalidExperiment
from lth.experiment import Experiment, RewindToStep, to_steps
from lth.models import build_model, prunable_tensors
from lth.pruning import ladder, layer_fraction


@dataclass(frozen=True)
class DataFacts:
    """What an experiment needs to know of its data set before any of it is read."""

    input_shape: tuple[int, int, int]
    classes: int
    examples: int

    @classmethod
    def of(cls, data: ImageData) -> DataFacts:
        return cls(data.input_shape, data.classes, len(data.train_labels))


@dataclass(frozen=True)
class Setup:
    """An experiment made concrete for a data set. `counts[level]` is what remains, by tensor or group."""

    network: Network
    recipe: Recipe
    counts: tuple[dict[str, int], ...]

    @property
    def weights_total(self) -> int:
        """Prunable weights of the dense network."""
        return sum(self.counts[0].values())


def setup(experiment: Experiment, facts: DataFacts) -> Setup:
    """Resolve durations, network and ladder; raises InvalidExperiment before anything is trained."""
    return _setup(experiment.model_dump_json(), facts)


@lru_cache(maxsize=8)
def _setup(text: str, facts: DataFacts) -> Setup:
    experiment = Experiment.model_validate_json(text)
    build = partial(build_model, experiment.model.name, facts.input_shape, facts.classes, experiment.model.arguments)
    tensors = prunable_tensors(build(), facts.input_shape, facts.classes, experiment.model.prunable,
                               experiment.model.output_layer)
    network = describe(build, facts.input_shape, facts.classes, tensors, experiment.model.initialisation)
    pruning = experiment.pruning
    fractions = [layer_fraction(tensor, pruning.fraction.dense, pruning.fraction.conv, pruning.output_factor)
                 for tensor in tensors]
    if pruning.levels and not any(fractions):
        raise InvalidExperiment("pruning.fraction prunes nothing in this network: its layers are "
                                f"{', '.join(sorted({tensor.kind for tensor in tensors}))}; set their fraction")
    return Setup(network, resolve_recipe(experiment, facts.examples),
                 tuple(ladder(tensors, fractions, pruning.levels, pruning.scope)))


def resolve_recipe(experiment: Experiment, examples: int) -> Recipe:
    """The experiment's training in plain steps, for a training set of `examples` before the validation split."""
    training, dataset = experiment.training, experiment.dataset
    left = examples - dataset.validation
    if left < 1:
        raise InvalidExperiment(f"dataset.validation is {dataset.validation}, but the training set has only {examples} "
                                "examples; hold out fewer")
    if training.batch_size > left:
        raise InvalidExperiment(f"training.batch_size is {training.batch_size}, larger than the {left} training "
                                "examples that the validation split leaves; use a smaller batch")
    per_epoch = left // training.batch_size
    steps = to_steps(training.duration, per_epoch)
    schedule, settings = training.schedule, training.optimizer.model_dump()
    rewind = to_steps(experiment.rewinding.step, per_epoch) if isinstance(experiment.rewinding, RewindToStep) else None
    milestones = tuple(to_steps(milestone, per_epoch) for milestone in getattr(schedule, "milestones", ()))
    recipe = Recipe(
        optimizer=Optimizer(**settings),
        schedule=Schedule(schedule.kind, to_steps(schedule.warmup, per_epoch), milestones,
                          getattr(schedule, "factor", 0.1)),
        batch_size=training.batch_size, steps=steps, evaluate_every=to_steps(training.evaluate_every, per_epoch),
        precision=training.precision, crop_padding=dataset.crop_padding, flip=dataset.flip, rewind_step=rewind)
    _check_order("training.evaluate_every", recipe.evaluate_every, steps)
    _check_order("training.schedule.warmup", recipe.schedule.warmup, steps)
    if list(milestones) != sorted(set(milestones)):
        raise InvalidExperiment(f"training.schedule.milestones must increase; in steps they are {list(milestones)}")
    if rewind is not None:
        _check_order("rewinding.step", rewind, steps - 1)
    return recipe


def _check_order(field: str, value: int, limit: int) -> None:
    if value > limit:
        raise InvalidExperiment(f"{field} is step {value}, past step {limit}, the last one possible in this training; "
                                "make it smaller")


