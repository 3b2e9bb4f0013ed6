"""The network of an experiment, and what is known of its data before any of it is read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

from lth.data.examples import TARGET, DataSet
from lth.engine import Network, describe
from lth.experiment import Experiment
from lth.models import LeftDense, PrunableTensor, build_model, prunable_tensors, structure_of
from lth.objectives import Target
from lth.streams import own_randomness


@dataclass(frozen=True)
class DataFacts:
    """What an experiment needs to know of its data set before any of it is read."""

    input_shape: tuple[int, ...]
    classes: int
    examples: int
    target: Literal["class", "number"] = "class"

    @classmethod
    def of(cls, data: DataSet) -> DataFacts:
        examples = data.examples()
        schema = examples.schema
        return cls(schema.input_shape, schema.target.classes, len(examples.train[TARGET]), schema.target.kind)


@dataclass(frozen=True)
class ExperimentNetwork:
    """A network, and the weights of its layers that are never pruned. `dense` says of each parameter that is not
    prunable why."""

    network: Network
    elsewhere: tuple[PrunableTensor, ...]
    dense: tuple[LeftDense, ...]

    @property
    def output_layer(self) -> set[str]:
        """Parameters of the output layer."""
        outputs = {
            tensor.name.rpartition(".")[0] for tensor in (*self.network.prunable, *self.elsewhere) if tensor.output
        }
        return {slot.name for slot in self.network.layout.slots if slot.name.rpartition(".")[0] in outputs}


def network_of(experiment: Experiment, facts: DataFacts) -> ExperimentNetwork:
    """The network of an experiment; raises InvalidExperiment where there is none for such data."""
    return _network(experiment.model_dump_json(), facts)


@lru_cache(maxsize=8)
def _network(text: str, facts: DataFacts) -> ExperimentNetwork:
    experiment = Experiment.model_validate_json(text)  # which imports the user's modules first
    outputs = experiment.objective.resolve(1).outputs(Target(facts.target, facts.classes))
    build = partial(build_model, experiment.model.name, facts.input_shape, outputs, experiment.model.arguments)
    chosen, output_layer = experiment.model.prunable, experiment.model.output_layer
    with own_randomness(0, "description"):
        module = build()
        structure = structure_of(module, facts.input_shape, outputs, chosen, output_layer)
        tensors = structure.prunable
        every = tensors if chosen is None else prunable_tensors(module, facts.input_shape, outputs)
    network = describe(build, facts.input_shape, outputs, tensors, experiment.model.initialisation)
    names = {tensor.name for tensor in tensors}
    elsewhere = tuple(tensor for tensor in every if tensor.name not in names)
    return ExperimentNetwork(network, elsewhere, structure.dense)
