"""What decides a result beside the experiment's id, held fixed as the data are: code, versions and instructions."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lth.catalogue import REGISTRIES, registry_of
from lth.data.registry import DATASETS
from lth.errors import LthError
from lth.experiment import Experiment
from lth.identity import digest
from lth.models.registry import MODELS
from lth.processor import instructions
from lth.registry import import_module
from lth.sources import OURS, digest_of_definition, digests_of_modules
from lth.store import Store
from lth.version import ENGINE_VERSION


@dataclass(frozen=True)
class Pins:
    """The engine's version and torch's (without what it was built for), the CPU's instructions, and of the user's code
    the digest of every file and of every registered definition that the experiment uses."""

    engine: str
    torch: str
    instructions: str
    sources: Mapping[str, str]

    def differences(self, stored: Mapping[str, Any], on_cpu: bool) -> list[str]:
        """What a stored record says otherwise, in words. Code that only one of the two has is no difference: a sweep
        may be extended by an arm of one's own. Instructions matter where a CPU trains."""
        found = [
            f"{words} is {ours}, then {theirs}"
            for words, ours, theirs in (
                ("the engine's version", self.engine, stored["engine"]),
                ("torch", self.torch, stored["torch"]),
                ("the CPU's instruction set", self.instructions, stored["instructions"]),
            )
            if theirs not in (None, ours) and (on_cpu or ours != self.instructions)
        ]
        return found + [
            f"{name} has changed (digest {self.sources[name]}, then {then})"
            for name, then in sorted(stored["sources"].items())
            if self.sources.get(name, then) != then
        ]


def pins_of(experiment: Experiment) -> Pins:
    """Those of this process. Imports the user's modules: to be asked where something is about to be trained."""
    import torch

    for name in experiment.imports:  # what they register is looked up by its name
        import_module(name, "imports")
    model = experiment.model.name.rpartition(":")[0]
    modules = [*experiment.imports, *([model] if model else [])]
    sources = {}
    for name, definition in _definitions(experiment):
        definition = getattr(definition, "func", definition)  # of a partial
        module = getattr(definition, "__module__", "")
        if module.partition(".")[0] not in OURS:
            sources[name] = digest_of_definition(definition)
            modules.append(module)
    sources.update(digests_of_modules(modules))
    return Pins(ENGINE_VERSION, str(torch.__version__).partition("+")[0], instructions(), dict(sorted(sources.items())))


def _definitions(experiment: Experiment) -> Iterator[tuple[str, object]]:
    """Every registered function or class that the experiment names, as `criterion kept_sign`, and what those take by
    name from a registry: evidence."""
    used = set(_texts(experiment.deciding())) | {arm.name for arm in experiment.arms}
    registries = [registry_of(what) for what in REGISTRIES]
    for registry in registries:
        for name in used & set(registry):
            used |= set(_parameters(registry.definition(name)))
    for registry in registries:
        yield from ((f"{registry.kind} {name}", registry.definition(name)) for name in sorted(used & set(registry)))
    if experiment.dataset.name in DATASETS:
        yield f"data set {experiment.dataset.name}", DATASETS[experiment.dataset.name].load
    module, _, factory = experiment.model.name.rpartition(":")
    if module and experiment.model.name not in MODELS:
        yield f"model {experiment.model.name}", getattr(import_module(module, "model.name"), factory, None)


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _texts(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _texts(value)


def _parameters(definition: object) -> list[str]:
    try:
        return list(inspect.signature(definition).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return []


def changed_since(store: Store, experiment_id: str, pins: Pins, on_cpu: bool = True) -> list[str]:
    """What differs from what the experiment began with, in words; nothing if it has not begun, or before there were
    pins. Raises DamagedObject if a record of them is damaged."""
    found: list[str] = []
    for stored in store.pins(experiment_id):
        found += [each for each in pins.differences(stored, on_cpu) if each not in found]
    return found


def refusal(experiment_id: str, changes: list[str]) -> str:
    """One line on what has changed and what to do."""
    return (
        f"{experiment_id} began with something else: {'; '.join(changes)}; put that back, or go on under a new id with "
        "--accept-changes (`accept_changes=True`, or another name)"
    )


def pin(store: Store, experiment_id: str, pins: Pins, on_cpu: bool) -> None:
    """Write the pins down, or what they add to those of before; raises LthError if the experiment began with others.

    Once more after writing: of two sweeps that begin at the same moment with different code, neither goes on.
    """
    known: dict[str, str] = {}
    for _ in range(2):
        if changes := changed_since(store, experiment_id, pins, on_cpu):
            raise LthError(refusal(experiment_id, changes))
        records = store.pins(experiment_id)
        for record in records:
            known.update(record["sources"])
        cpu_known = any(record["instructions"] for record in records)
        if records and pins.sources.items() <= known.items() and (cpu_known or not on_cpu):
            return
        store.put_pins(experiment_id, {**asdict(pins), "instructions": pins.instructions if on_cpu else None})


def with_changes_accepted(store: Store, experiment: Experiment, pins: Pins) -> Experiment:
    """The experiment, under a name that its new pins belong to if it has begun with others: again the same one for the
    same pins, so that it can be resumed."""
    if not changed_since(store, experiment.id, pins):
        return experiment
    suffix = digest({**asdict(pins), "sources": dict(pins.sources)})[:6]
    return experiment.model_copy(update={"name": f"{experiment.name[:57]}-{suffix}"})
