"""Removing from a store: an experiment, or what is kept of it only to go on faster. First a plan, then the deed.

Whatever order a removal is cut short in, what is left is a store: rows leave the curated tables first, then the commit
marks, then what they speak of, the record of the experiment last. The same removal again does the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lth.errors import LthError, StoreError
from lth.store import claims
from lth.store.curated import withdraw_experiment
from lth.store.local_files import Entry
from lth.store.objects import Objects
from lth.store.reader import READERS
from lth.store.schemas import ANALYSIS_SCHEMAS
from lth.store.store import Store
from lth.store.unit import UNIT_KINDS, experiment_key, folder, is_key, unit_name_of

BESIDE = ("metrics", "masks", "checkpoints", *ANALYSIS_SCHEMAS, "progress", "claims", "reports")
"""Kinds of objects that say nothing without `levels`."""

Kind = str


@dataclass(frozen=True)
class Removal:
    """What is to be removed: the objects by kind in the order in which they go, why some stay, and what is lost."""

    experiment_id: str
    objects: dict[Kind, dict[str, Entry]]
    kept: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for found in self.objects.values() for entry in found.values())

    def __len__(self) -> int:
        return sum(map(len, self.objects.values()))


def in_use(store: Store, experiment_id: str) -> str | None:
    """A sweep of the experiment that runs, or may run; None: there is none."""
    return next(iter(claims.living(store.objects, experiment_id).values()), None)


def dependents(store: Store, experiment_id: str) -> list[str]:
    """The experiments that take their tickets over from this one."""
    found = []
    for other in store.experiments():
        try:
            spec = store.describe(other).get("experiment")
        except LthError:
            continue  # it cannot be read: `verify` names it
        transfer = spec.get("transfer") if isinstance(spec, dict) else None
        if isinstance(transfer, dict) and transfer.get("experiment") == experiment_id:
            found.append(other)
    return found


def plan_deletion(store: Store, experiment_id: str) -> Removal:
    """Everything that a store holds of an experiment. Raises LthError while a sweep of it runs."""
    _refuse_running(store, experiment_id)
    objects = store.objects
    found = {kind: objects.entries(folder(kind, experiment_id)) for kind in ("levels", *BESIDE)}
    aside = [f"quarantine/{folder(kind, experiment_id)}" for kind in (*UNIT_KINDS, *ANALYSIS_SCHEMAS)]
    found["quarantine"] = {key: entry for place in aside for key, entry in objects.entries(place).items()}
    curated = {
        key: entry
        for kind in ("levels", "metrics", "masks")
        for key, entry in objects.entries(f"curated/{kind}/experiment_id={experiment_id}").items()
    }
    records = objects.entries(f"experiments/{experiment_id}")
    last = experiment_key(experiment_id)
    found["experiments"] = {key: records[key] for key in sorted(records, key=lambda key: key == last)}
    losses = [
        f"{other} takes its tickets over from it: no further seeds or levels of it can be trained"
        for other in dependents(store, experiment_id)
    ]
    return Removal(experiment_id, {"curated": curated, **found}, losses=tuple(losses))


def delete_experiment(store: Store, experiment_id: str) -> Removal:
    """Remove everything that a store holds of an experiment; returns what was there."""
    plan = plan_deletion(store, experiment_id)
    _withdraw(store, experiment_id)
    for kind in ("levels", *BESIDE, "quarantine"):
        _delete(store.objects, plan.objects[kind])
    for key in plan.objects["experiments"]:
        store.objects.delete(key)
    for kind in ("levels", *BESIDE):
        store.objects.remove_empty(folder(kind, experiment_id))
    for place in (f"curated/{kind}/experiment_id={experiment_id}" for kind in ("levels", "metrics", "masks")):
        store.objects.remove_empty(place)
    store.objects.remove_empty(f"experiments/{experiment_id}")
    return plan


def plan_cleaning(
    store: Store,
    experiment_id: str,
    *,
    checkpoints: bool = False,
    progress: bool = False,
    quarantine: bool = False,
    older_than: float = 0.0,
    watch: float = 0.0,
) -> Removal:
    """What of an experiment can go without a result being lost: checkpoints, trainings in progress, what was set aside
    - all of them if they were written more than `older_than` seconds ago - and claims of sweeps that have ended.

    Nothing of a sweep that runs: no checkpoint of its experiment, nor of one whose tickets it takes over, and no
    training that it is at. `watch`: seconds to look whether a sweep on another machine still counts, see
    `claims.living`.
    """
    objects = store.objects
    before = objects.now() - older_than
    held = claims.living(objects, experiment_id, watch)
    found: dict[Kind, dict[str, Entry]] = {}
    kept, losses = [], []
    ended = {key: entry for key, entry in objects.entries(folder("claims", experiment_id)).items() if key not in held}
    found["claims"] = {key: entry for key, entry in ended.items() if is_key(key)}

    def old(place: str) -> dict[str, Entry]:
        entries = objects.entries(place).items()
        return {key: entry for key, entry in entries if entry.changed <= before and is_key(key)}

    if checkpoints:
        users = [user for other in dependents(store, experiment_id) if (user := in_use(store, other))]
        user = next(iter([*held.values(), *users]), None)
        if user is not None:
            kept.append(f"checkpoints: {user}, may need them")
        else:
            found["checkpoints"] = old(folder("checkpoints", experiment_id))
            losses += _losses(found["checkpoints"])
    if progress:
        at = {unit_name_of(key) for key in held}
        states = old(folder("progress", experiment_id))
        found["progress"] = {key: entry for key, entry in states.items() if key.split("/")[-2] not in at}
        if len(found["progress"]) < len(states):
            kept.append(f"{len(states) - len(found['progress'])} trainings that a sweep is at")
        if found["progress"]:
            losses.append("trainings that were cut short begin anew")
    if quarantine:
        places = [f"quarantine/{folder(kind, experiment_id)}" for kind in (*UNIT_KINDS, *ANALYSIS_SCHEMAS)]
        found["quarantine"] = {key: entry for place in places for key, entry in old(place).items()}
    return Removal(experiment_id, found, tuple(kept), tuple(losses))


def clean(store: Store, plan: Removal) -> None:
    """Remove what a plan of `plan_cleaning` says, if no sweep has begun since; StoreError if one has."""
    if (plan.objects.get("checkpoints") or plan.objects.get("progress")) and in_use(store, plan.experiment_id):
        fresh = claims.living(store.objects, plan.experiment_id)
        at = {unit_name_of(key) for key in fresh}
        states = plan.objects.get("progress") or {}
        if plan.objects.get("checkpoints") or any(key.split("/")[-2] in at for key in states):
            raise StoreError(f"a sweep of {plan.experiment_id} has begun meanwhile; nothing was removed, try again")
    for found in plan.objects.values():
        _delete(store.objects, found)


def _losses(checkpoints: Iterable[str]) -> list[str]:
    levels = sorted({_level(key) for key in checkpoints})
    if not levels:
        return []
    lost = []
    numbers = ", ".join(str(level) for level in levels if level >= 0)
    lost.append(
        f"weights of level{'s' * (len(levels) > 1)} {numbers}: to go deeper, the level before is trained again "
        "first; where networks go on from trained weights (rewinding learning_rate or fine_tune), every level before is"
    )
    if 0 in levels:
        lost.append(
            "rewind points: more arms, and export, of late-rewound tickets train the dense network again first; other "
            "experiments cannot take late-rewound tickets over any more"
        )
    return lost


def _level(key: str) -> int:
    """The pruning level that a unit's name says; -1: none."""
    parts = [part for part in unit_name_of(key).split("-") if part[:1] == "L" and part[1:].isdigit()]
    return int(parts[0][1:]) if parts else -1


def _refuse_running(store: Store, experiment_id: str) -> None:
    user = in_use(store, experiment_id)
    if user is not None:
        raise LthError(
            f"{experiment_id} is in use by {user}; end it first (if it was killed on another "
            "machine, `lth clean --yes` finds out)"
        )


def _withdraw(store: Store, experiment_id: str) -> None:
    for attempt in range(3):
        try:
            withdraw_experiment(store, experiment_id)
            return
        except StoreError as error:
            if attempt == 2 or "another compaction" not in str(error):
                raise


def _delete(objects: Objects, keys: Iterable[str]) -> None:
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(objects.delete_listed, keys))
