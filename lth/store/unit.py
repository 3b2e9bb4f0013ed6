"""Units and the names of their objects: the one place that knows the layout of a store.

    experiments/<id>/experiment.yaml                  experiments/<id>/sweeps/<8 hex>.json
    experiments/<id>/pins/<8 hex>.json                what decides results beside the id: code, versions, instructions
    levels/experiment=<id>/<unit>.parquet             metrics/…, masks/… likewise
    checkpoints/experiment=<id>/<unit>.safetensors    reports/experiment=<id>/<name>
    progress/experiment=<id>/<unit>/<part of it>.safetensors
    claims/experiment=<id>/units/<unit>.json          claims/experiment=<id>/sweeps/<sweep>.json
    tickets/<SHA-256>.safetensors                     tickets that were exported and are to be trained on other data
    quarantine/<the object's key>.<8 hex of its content>

A key is relative to the store and made of checked names only, so nothing can leave the store's prefix.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from lth.errors import StoreError

UNIT_KINDS = ("levels", "metrics", "masks", "checkpoints")
"""The objects of a unit. `levels` is the commit mark: written last, removed first."""

LONGEST_NAME = 128
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_KEY_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._=-]*")


def is_name(name: str) -> bool:
    """Whether `name` is made of letters, digits, `.`, `_` and `-` and can be part of a key."""
    return isinstance(name, str) and bool(_NAME.fullmatch(name)) and ".." not in name and len(name) <= LONGEST_NAME


def check_name(name: str, what: str) -> str:
    """`name`, if it can be part of a key; else StoreError."""
    if not is_name(name):
        raise StoreError(
            f"{what} {str(name)[:80]!r} cannot name an object; use at most {LONGEST_NAME} letters, "
            "digits, '.', '_' and '-', no leading '.', no '..'"
        )
    return name


def is_key(key: str) -> bool:
    """Whether every part of `key` is an allowed name."""
    return all(_KEY_SEGMENT.fullmatch(segment) and ".." not in segment for segment in key.split("/"))


def check_key(key: str) -> str:
    """`key`, if every part of it is an allowed name; else StoreError."""
    if not is_key(key):
        raise StoreError(
            f"key {key[:120]!r} is no key of a store; use letters, digits, '.', '_', '-', '=' between "
            "single slashes, no part with a leading '.' or '..'"
        )
    return key


@dataclass(frozen=True)
class Unit:
    """The smallest piece of work that is committed: one arm and level of one cohort.

    `seeds` are increasing and without repeats, in the order of the leading axis of the cohort's tensors; they are
    not sorted here, because that would silently part seeds from their tensors.
    """

    arm: str
    draw: int
    level: int
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        check_name(self.arm, "arm")
        if re.search(r"\.\d+$", self.arm):
            raise StoreError(f"arm {self.arm!r} ends like a draw number; choose a name without '.<digits>' at its end")
        if self.draw < 0 or self.level < 0:
            raise StoreError(f"draw {self.draw} and level {self.level} count from 0")
        object.__setattr__(self, "seeds", tuple(int(seed) for seed in self.seeds))
        if not self.seeds or self.seeds[0] < 0 or list(self.seeds) != sorted(set(self.seeds)):
            raise StoreError(f"seeds {str(self.seeds)[:80]} of a unit must be increasing, none below 0 and none twice")

    @property
    def name(self) -> str:
        """`<arm>[.<draw>]-L<level>-s<first seed>-<last seed>-<8 hex of the seed list>`."""
        arm = f"{self.arm}.{self.draw}" if self.draw else self.arm
        digest = hashlib.sha256(",".join(map(str, self.seeds)).encode()).hexdigest()
        return f"{arm}-L{self.level:02d}-s{self.seeds[0]}-{self.seeds[-1]}-{digest[:8]}"


def _experiment(experiment_id: str) -> str:
    return check_name(experiment_id, "experiment id")


def folder(kind: str, experiment_id: str) -> str:
    """Where an experiment's objects of one kind lie, e.g. `levels/experiment=<id>`."""
    return f"{kind}/experiment={_experiment(experiment_id)}"


def unit_key(kind: str, experiment_id: str, unit_name: str) -> str:
    """The key of one of a unit's objects; `kind` is one of UNIT_KINDS."""
    suffix = "safetensors" if kind == "checkpoints" else "parquet"
    return f"{folder(kind, experiment_id)}/{check_name(unit_name, 'unit')}.{suffix}"


def levels_key(experiment_id: str, unit_name: str) -> str:
    return unit_key("levels", experiment_id, unit_name)


def checkpoint_key(experiment_id: str, unit_name: str) -> str:
    return unit_key("checkpoints", experiment_id, unit_name)


def progress_folder(experiment_id: str, unit_name: str) -> str:
    """Where the states of a unit's trainings in progress lie."""
    return f"{folder('progress', experiment_id)}/{check_name(unit_name, 'unit')}"


def progress_key(experiment_id: str, unit_name: str, part_name: str) -> str:
    """The state of one of them; `part_name` is the name of a unit of the seeds that it trains."""
    return f"{progress_folder(experiment_id, unit_name)}/{check_name(part_name, 'unit')}.safetensors"


def claim_key(experiment_id: str, unit_name: str) -> str:
    """Where the sweep that is at a unit says so."""
    return f"{folder('claims', experiment_id)}/units/{check_name(unit_name, 'unit')}.json"


def sweep_claim_key(experiment_id: str, sweep: str) -> str:
    """Where a sweep shows that it runs."""
    return f"{folder('claims', experiment_id)}/sweeps/{check_name(sweep, 'sweep')}.json"


def ticket_key(sha256: str) -> str:
    return f"tickets/{check_name(sha256, 'ticket')}.safetensors"


def experiment_key(experiment_id: str) -> str:
    return f"experiments/{_experiment(experiment_id)}/experiment.yaml"


def sweeps_folder(experiment_id: str) -> str:
    return f"experiments/{_experiment(experiment_id)}/sweeps"


def sweep_key(experiment_id: str, name: str) -> str:
    return f"{sweeps_folder(experiment_id)}/{check_name(name, 'sweep')}.json"


def pins_folder(experiment_id: str) -> str:
    return f"experiments/{_experiment(experiment_id)}/pins"


def pins_key(experiment_id: str, name: str) -> str:
    return f"{pins_folder(experiment_id)}/{check_name(name, 'pins')}.json"


def report_key(experiment_id: str, name: str) -> str:
    """`name` may hold folders, e.g. `figures/accuracy.svg`."""
    return check_key(f"{folder('reports', experiment_id)}/{name}")


def quarantine_key(key: str, content: bytes) -> str:
    """Where a damaged or withdrawn object is put: named by its content, so that nothing is ever overwritten."""
    return f"quarantine/{check_key(key)}.{hashlib.sha256(content).hexdigest()[:8]}"


def unit_name_of(key: str) -> str:
    """The unit that an object's key names: `levels/experiment=x/<unit>.parquet` gives `<unit>`."""
    return PurePosixPath(key).stem
