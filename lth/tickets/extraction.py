"""A ticket out of a store. Its mask lies there; its weights are computed again from the seed, to the bit on a CPU.

Stores keep weights no longer than a sweep needs them, and every training can be repeated: so any ticket of any level
can be had. What the repeated training scores is held against what the store says of it.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from lth.data import ImageData, load_dataset
from lth.engine import choose_device, choose_program, evaluate, exact_arithmetic
from lth.errors import LthError
from lth.experiment import Arm, Experiment
from lth.experiment.load import build_experiment
from lth.store import Store, Unit
from lth.sweep import stages
from lth.sweep.handover import Arrays, Job, named
from lth.sweep.opening import reopened
from lth.sweep.record import code_version
from lth.sweep.setup import DataFacts
from lth.sweep.stages.rewind import feed_of
from lth.tickets.portable import Card, PortableTicket

Weights = Literal["early_stop", "end"]
TOLERANCE = 0.002
"""How far a repeated training may score from the store's: nothing on the same kind of machine, little on another."""


def collect(
    store: Store,
    experiment_id: str,
    seed: int,
    level: int,
    arm: str = "ticket",
    draw: int = 0,
    weights: Weights = "early_stop",
    threads: int = 1,
    device: str = "auto",
) -> PortableTicket:
    """One seed's network of an arm and level of an experiment: trains it once more.

    `weights` are those at early stop, which result tables are about, or those at the end of the training. `level` 0 of
    the ticket is the dense network. Raises LthError if the store has no such training, if it diverged, if the data are
    not those that the experiment began with, or if the repeated training scores otherwise.
    """
    described = store.describe(experiment_id)
    if not isinstance(described.get("experiment"), dict):
        raise LthError(f"{store.url} does not say what {experiment_id} is; its experiment.yaml is missing")
    committed = store.committed(experiment_id)
    rows = {(row["arm"], row["draw"], row["level"], row["seed"]): row for row in committed.rows.to_pylist()}
    row = rows.get((arm, draw, level, seed)) or rows.get(("ticket", 0, 0, seed) if level == 0 else ("", 0, 0, 0))
    if row is None:
        which = f"draw {draw} of {arm}" if draw else arm
        raise LthError(
            f"{experiment_id} has no {which} of seed {seed} at level {level} in {store.url}; it has "
            f"{_present(rows, arm)}"
        )
    if row["status"] == "diverged":
        raise LthError(
            f"the {arm} of seed {seed} at level {level} diverged: there is nothing to take away; choose "
            "another seed or level"
        )
    experiment = _experiment(described["experiment"], rows, experiment_id)
    data = load_dataset(experiment.dataset.name, path=experiment.dataset.path)
    if data.fingerprint() != described["data_sha256"]:
        raise LthError(
            f"the data set {experiment.dataset.name!r} here is not the one that {experiment_id} began with; "
            "set LTH_DATA_DIR to the folder that holds it"
        )
    job = Job(experiment, DataFacts.of(data), store.url, device, threads, code_version())
    sweep = reopened(store, job, [seed], committed)
    unit = Unit(row["arm"], row["draw"], level, (seed,))
    if not sweep.ready(unit):
        raise LthError(
            f"the {arm} of seed {seed} at level {level} cannot be trained again: a ticket that it comes "
            "from is not committed; run the sweep on"
        )
    todo = sweep.work(unit)
    masks = store.read_masks(experiment_id, {seed: committed.where[row["arm"], row["draw"], level, seed]})
    own = {f"masks/{name}": mask for name, mask in masks.items()} if row["arm"] == "ticket" and level else None
    start = stages.rewind_unit(job, todo, data, own).arrays
    if any((start[f"masks/{name}"] != mask).any() for name, mask in masks.items()):
        raise LthError(
            f"the {arm} of seed {seed} at level {level} cannot be repeated: this version draws another mask "
            f"than {row['code_version']} did; use that version"
        )
    trained = stages.train_unit(job, todo, start, data).arrays
    prefix = "early_stop/" if weights == "early_stop" else ""
    ending = "_at_early_stop" if weights == "early_stop" else ""
    accuracy, mean, scale = _measured(job, trained, prefix, data, seed)
    if abs(accuracy - row[f"test_accuracy{ending}"]) > TOLERANCE:
        raise LthError(
            f"trained again, the {arm} of seed {seed} at level {level} scores {accuracy:.4f}, not the "
            f"{row[f'test_accuracy{ending}']:.4f} of the store ({row['device']}, {row['threads']} threads, "
            f"code {row['code_version']}); use the machine and version that trained it"
        )
    dense = rows.get(("ticket", 0, 0, seed))
    card = Card(
        experiment_id,
        row["arm"],
        row["draw"],
        level,
        seed,
        row["density"],
        row["weights_remaining"],
        row["weights_total"],
        weights,
        int(row["early_stop_step"] if weights == "early_stop" else row["steps"]),
        row[f"test_accuracy{ending}"],
        accuracy,
        len(data.test_labels),
        dense[f"test_accuracy{ending}"] if dense and dense["status"] == "ok" else None,
        experiment.dataset.name,
        described["data_sha256"],
        experiment.model.name,
        dict(experiment.model.arguments),
        data.input_shape,
        data.classes,
        row["criterion"] if level else None,
        row["code_version"],
        row["device"],
        experiment.model.initialisation,
        experiment.pruning.remove,
        experiment.rewinding.kind,
        experiment.model.output_layer,
        experiment.imports,
    )
    kept = {name: torch.from_numpy(mask[0].copy()) for name, mask in masks.items()}
    return PortableTicket(card, kept, _state(job, start, ""), _state(job, trained, prefix), mean, scale)


def _experiment(content: dict[str, Any], rows: Any, experiment_id: str) -> Experiment:
    """The experiment with every arm and level that the store has, whatever its first sweep asked for."""
    experiment = build_experiment(content)
    if experiment.id != experiment_id:
        raise LthError(
            f"{experiment_id} was made by another version of lth: this one calls the same settings "
            f"{experiment.id}; use the version that made it"
        )
    draws: dict[str, int] = {"ticket": 1}
    for arm, draw, _, _ in rows:
        draws[arm] = max(draws.get(arm, 1), draw + 1)
    deepest = max(level for _, _, level, _ in rows)
    return experiment.model_copy(
        update={
            "arms": tuple(Arm(name=name, draws=count) for name, count in draws.items()),
            "pruning": experiment.pruning.model_copy(update={"levels": max(deepest, experiment.pruning.levels)}),
        }
    )


def _present(rows: Any, arm: str) -> str:
    arms = sorted({place[0] for place in rows})
    if arm not in arms:
        return f"the arms {', '.join(arms) or 'none'}"
    draws, levels, seeds = ({place[index] for place in rows if place[0] == arm} for index in (1, 2, 3))
    several = f", draws 0 to {max(draws)}" if max(draws) else ""
    return f"seeds {min(seeds)} to {max(seeds)} and levels {min(levels)} to {max(levels)} of it{several}"


def _state(job: Job, arrays: Arrays, prefix: str) -> dict[str, torch.Tensor]:
    """The state dict of the only seed: parameters and buffers."""
    network = job.setup.network
    rows = torch.from_numpy(arrays[f"{prefix}weights"].copy())
    state = {name: view[0].clone() for name, view in network.layout.views(rows).items()}
    state.update(
        {name: torch.from_numpy(buffer[0].copy()) for name, buffer in named(arrays, f"{prefix}buffers/").items()}
    )
    return state


def _measured(
    job: Job, trained: Arrays, prefix: str, data: ImageData, seed: int
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Test accuracy of the weights, and the standardisation of the seed: mean and scale [channels]."""
    precision = job.setup.recipe.precision
    device = choose_device(job.device, precision)
    with exact_arithmetic(job.threads, precision):
        feed = feed_of(job, data, (seed,), device)
        weights = torch.from_numpy(trained[f"{prefix}weights"].copy()).to(device)
        buffers = {
            name: torch.from_numpy(buffer.copy()).to(device)
            for name, buffer in named(trained, f"{prefix}buffers/").items()
        }
        program = choose_program(job.setup.network, (seed,), device, precision)
        _, accuracy = evaluate(program, weights, buffers, feed, "test")
    return float(accuracy[0]), feed.mean.flatten().cpu(), feed.scale.flatten().cpu()
