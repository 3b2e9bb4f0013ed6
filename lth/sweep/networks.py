"""The network of an experiment, and what is known of its data before any of it is read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

from torch import nn

from lth.data.examples import TARGET, DataSet
from lth.engine import Network, describe
from lth.experiment import Experiment
from lth.inspection.sketch import Sketch
from lth.models import LeftDense, PrunableTensor, build_model, structure_of
from lth.objectives import Target
from lth.streams import own_randomness


@dataclass(frozen=True)
class DataFacts:
    """What an experiment needs to know of its data set before any of it is read."""

    input_shape: tuple[int, ...]
    classes: int
    examples: int
    target: Literal["class", "number"] = "class"
    caveats: tuple[str, ...] = ()
    """What a reader of results on these data must know, one sentence each."""

    @classmethod
    def of(cls, data: DataSet) -> DataFacts:
        examples = data.examples()
        schema = examples.schema
        count = len(examples.train[TARGET])
        return cls(schema.input_shape, schema.target.classes, count, schema.target.kind, data.caveats())


@dataclass(frozen=True)
class ExperimentNetwork:
    """A network, and the weights of its layers that are never pruned. `dense` says of each parameter that is not
    prunable why; `sketch` is of what the factory built here of one seed that is always the same."""

    network: Network
    elsewhere: tuple[PrunableTensor, ...]
    dense: tuple[LeftDense, ...]
    sketch: Sketch

    @property
    def output_layer(self) -> set[str]:
        """Parameters of the output layer: its weight, and what else lies in its layer, if it is in one."""
        found: set[str] = set()
        for tensor in (*self.network.prunable, *self.elsewhere):
            if tensor.output:
                path = tensor.name.rpartition(".")[0].partition("parametrizations")[0].rstrip(".")
                layer = self.network.module.get_submodule(path)
                is_layer = isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd))
                inside = [f"{path}.{name}".lstrip(".") for name, _ in layer.named_parameters()] if is_layer else []
                found |= {tensor.name, *inside}
        return found & {slot.name for slot in self.network.layout.slots}


def network_of(experiment: Experiment, facts: DataFacts) -> ExperimentNetwork:
    """The network of an experiment; raises InvalidExperiment where there is none for such data."""
    return _network(experiment.model_dump_json(), facts)


@lru_cache(maxsize=8)
def _network(text: str, facts: DataFacts) -> ExperimentNetwork:
    experiment = Experiment.model_validate_json(text)
    outputs = experiment.objective.resolve(1).outputs(Target(facts.target, facts.classes))
    build = partial(build_model, experiment.model.name, facts.input_shape, outputs, experiment.model.arguments)
    chosen, output_layer = experiment.model.prunable, experiment.model.output_layer
    with own_randomness(0, "description"):
        module = build()
        sketch = Sketch.of(module)
        structure = structure_of(module, facts.input_shape, outputs, chosen, output_layer)
    network = describe(
        build, facts.input_shape, outputs, structure.prunable, experiment.model.initialisation, structure.matrices
    )
    return ExperimentNetwork(network, structure.elsewhere, structure.dense, sketch)
