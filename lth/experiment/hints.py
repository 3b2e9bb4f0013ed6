"""What people write who mean a field by another name or at another place, and where it belongs."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

ELSEWHERE = {
    "lr": "training.optimizer.learning_rate",
    "wd": "training.optimizer.weight_decay",
    "opt": "training.optimizer",
    "scheduler": "training.schedule",
    "lr_schedule": "training.schedule",
    "lr_scheduler": "training.schedule",
    "batch": "training.batch_size",
    "batchsize": "training.batch_size",
    "bs": "training.batch_size",
    "epochs": "training.duration",
    "epoch": "training.duration",
    "steps": "training.duration",
    "iterations": "training.duration",
    "max_steps": "training.duration",
    "loss": "objective",
    "task": "objective",
    "network": "model",
    "architecture": "model.name",
    "arch": "model.name",
    "net": "model",
    "init": "model.initialisation",
    "initialization": "model.initialisation",
    "data": "dataset",
    "rewind": "rewinding",
    "sparsity": "pruning.fraction",
    "rate": "pruning.fraction",
    "amount": "pruning.fraction",
    "pruning_rate": "pruning.fraction",
    "rounds": "pruning.levels",
    "controls": "arms",
    "grad_clip": "training.clip_norm",
    "method": "pruning.criterion",
    "hidden": "model.arguments.hidden",
}
"""The full path of what is meant."""
IN_PLACE = {"name": "kind", "type": "kind", "kind": "name", "lr": "learning_rate", "wd": "weight_decay"}
"""What stands for another field of the same group."""
_UNITS = {"epochs": "ep", "epoch": "ep", "steps": "it", "iterations": "it", "max_steps": "it"}
OPTIONS = (
    "seeds",
    "device",
    "store",
    "threads",
    "cores",
    "cohort_size",
    "gpu_share",
    "save_every",
    "ticket",
    "figures",
)
"""What a command is given, and no experiment."""


def of_command(name: str, value: object) -> str | None:
    """What to say of a field that is an option of the command."""
    name = {"seed": "seeds", "gpu": "device", "gpus": "device"}.get(name, name)
    if name not in OPTIONS:
        return None
    shown = f" {value}" if isinstance(value, str | int | float) and len(str(value)) < 40 else ""
    return f"is no part of an experiment: give it to the command, --{name.replace('_', '-')}{shown}"


def meant(parent: Sequence[str], name: str, value: object, siblings: Sequence[str], paths: Sequence[str]) -> str | None:
    """What was meant by the unknown field `name` of `parent`, among its `siblings` and all `paths`; None: unknown."""
    above = ".".join(parent)
    if IN_PLACE.get(name) in siblings:
        return ".".join([*parent, IN_PLACE[name]])
    if above == "model":
        return f"model.arguments.{name}" if not difflib.get_close_matches(name, siblings, 1) else None
    if name in _UNITS and isinstance(value, int):
        return f"training.duration: {value}{_UNITS[name]}"
    if name in ELSEWHERE and (ELSEWHERE[name] in paths or "model.arguments" in paths):
        return ELSEWHERE[name]
    exact = [path for path in paths if path.split(".")[-1] == name and path.rpartition(".")[0] != above]
    return exact[0] if exact else None
