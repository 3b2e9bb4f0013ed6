"""A ticket out of a store. Its mask lies there; its weights are computed again from the seed, to the bit on a CPU.

Stores keep weights no longer than a sweep needs them, and every training can be repeated: so any ticket of any level
can be had. What the repeated training scores is held against what the store says of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from lth.data.examples import TARGET, DataSet
from lth.engine import Feed, Network, Snapshot, choose_device, choose_program, evaluate, exact_arithmetic
from lth.engine.named_tensors import mapped
from lth.errors import LthError
from lth.experiment import Arm, Experiment
from lth.models.calling import first_names
from lth.store import Store, Unit
from lth.store.origin_columns import kind_of
from lth.sweep import stages
from lth.sweep.handover import Job, Masks
from lth.sweep.opening import reopened
from lth.sweep.record import code_version
from lth.sweep.setup import DataFacts
from lth.sweep.stages.evaluate import masks_of_rows
from lth.sweep.stages.feed import feed_of
from lth.sweep.stored import stored_experiment
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
    trust: bool = False,
) -> PortableTicket:
    """One seed's network of an arm and level of an experiment: trains it once more.

    `weights` are those at early stop, which result tables are about, or those at the end of the training. `level` 0 of
    the ticket is the dense network. Raises LthError if the store has no such training, if it diverged, if the data are
    not those that the experiment began with, or if the repeated training scores otherwise; Untrusted if the store names
    code that the user of this process has not named himself, unless he says that he has `trust` in it.
    """
    described = store.describe(experiment_id)
    experiment = stored_experiment(experiment_id, described, trust)
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
    experiment = _with_rows(experiment, rows)
    if experiment.training.mask_changers:
        raise LthError(
            f"watcher {experiment.training.mask_changers[0]!r} of {experiment_id} changes masks while networks train: "
            "the store holds the mask at the end, from which a training cannot be repeated; take masks from the table "
            "`masks`"
        )
    data = experiment.dataset.load()
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
    kept = {name: torch.from_numpy(mask) for name, mask in masks.items()}
    own = Masks(kept) if row["arm"] == "ticket" and level else None
    start = stages.rewind_unit(job, todo, data, own).result
    if any(not torch.equal(start.masks[name], mask) for name, mask in kept.items()):
        raise LthError(
            f"the {arm} of seed {seed} at level {level} cannot be repeated: this version draws another mask "
            f"than {row['code_version']} did; use that version"
        )
    trained = stages.train_unit(job, todo, start, data).result
    snapshot = trained.early_stop if weights == "early_stop" else trained.end
    ending = "_at_early_stop" if weights == "early_stop" else ""
    score, feed = _measured(job, snapshot, data, seed)
    if abs(score - row[f"test_score{ending}"]) > TOLERANCE:
        raise LthError(
            f"trained again, the {arm} of seed {seed} at level {level} scores {score:.4f}, not the "
            f"{row[f'test_score{ending}']:.4f} of the store ({row['device']}, {kind_of(row)}, "
            f"code {row['code_version']}); use the machine and version that trained it"
        )
    dense, examples = rows.get(("ticket", 0, 0, seed)), data.examples()
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
        row[f"test_score{ending}"],
        score,
        len(examples.test[TARGET]),
        dense[f"test_score{ending}"] if dense and dense["status"] == "ok" else None,
        experiment.dataset.name,
        described["data_sha256"],
        experiment.model.name,
        dict(experiment.model.arguments),
        examples.schema.input_shape,
        job.setup.network.classes,
        row["criterion"] if level else None,
        row["code_version"],
        row["device"],
        experiment.model.initialisation,
        experiment.pruning.remove,
        experiment.rewinding.kind,
        experiment.model.output_layer,
        experiment.imports,
        row["score"],
        examples.schema.kind,
        examples.schema.columns,
        getattr(feed.transform, "indicators", ()),
        examples.schema.target.kind,
    )
    network = job.setup.network
    return PortableTicket(
        card,
        {name: mask[0].clone() for name, mask in masks_of_rows(network, trained.mask).items()},
        _state(network, start.weights, start.buffers),
        _state(network, snapshot.weights, snapshot.buffers),
        {name: tensor[0].cpu() for name, tensor in feed.fitted.items()},
    )


def _with_rows(experiment: Experiment, rows: Any) -> Experiment:
    """The experiment with every arm and level that the store has, whatever its first sweep asked for."""
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


def _state(network: Network, weights: torch.Tensor, buffers: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict of the only seed: parameters and buffers, each under every name that the module has for it."""
    state = {name: view[0].clone() for name, view in network.layout.views(weights).items()}
    state.update({name: buffer[0].clone() for name, buffer in buffers.items()})
    return {**state, **{name: state[first] for name, first in first_names(network.module).items()}}


def _measured(job: Job, snapshot: Snapshot, data: DataSet, seed: int) -> tuple[float, Feed]:
    """Test score of the weights, and the feed of the seed, which holds what its transform has measured."""
    recipe = job.setup.recipe
    device = choose_device(job.device, recipe.precision)
    with exact_arithmetic(job.threads, recipe.precision):
        feed = feed_of(job, data, (seed,), device)
        here = mapped(snapshot, lambda tensor: tensor.to(device))
        program = choose_program(job.setup.network, recipe.objective, (seed,), device, recipe.precision)
        _, score = evaluate(program, recipe.objective, here.weights, here.buffers, feed, "test")
    return float(score[0]), feed
