"""Data sets by name: the registry, one function that adds to it and one that loads from it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from lth.data.examples import DataSet
from lth.errors import DataError
from lth.registry import Registry, unknown

Loader = TypeVar("Loader", bound=Callable[..., DataSet])


class RegisteredDataset(NamedTuple):
    """How a data set is loaded: by a function that answers with a `lth.data.examples.DataSet`, which is then checked.

    It is called as `load(root)`, or `load(root, path)`, with the keywords `target` and `target_kind` where it takes a
    target.
    """

    load: Callable[..., DataSet]
    takes_path: bool = False
    takes_target: bool = False


DATASETS: Registry[RegisteredDataset] = Registry("data set", RegisteredDataset)


def register_dataset(
    name: str, description: str, *, takes_path: bool = False, takes_target: bool = False
) -> Callable[[Loader], Loader]:
    """Add a data set to the registry, where the CLI, the form and the docs find it.

        @register_dataset("tiny", "Two grey images, for a demonstration")
        def load_tiny(root: Path) -> ImageData: ...

    Args:
        name: what `dataset.name` in an experiment says.
        description: one line for a person who chooses.
        takes_path: the loader is called `load(root, path)` with the experiment's `dataset.path`.
        takes_target: it is given the keywords `target`, the column to learn, and `target_kind`: class, number, or None
            where what the column holds decides.

    Raises:
        InvalidExperiment: another loader has that name already. (The same definition again, as
            notebooks run it, is fine.)
    """

    def add(load: Loader) -> Loader:
        DATASETS.add(name, RegisteredDataset(load, takes_path, takes_target), description, load)
        return load

    return add


def dataset_names() -> dict[str, str]:
    """Name and one-line description of every registered data set, in alphabetical order."""
    return DATASETS.names()


def data_root(root: Path | None = None) -> Path:
    """The folder of the data sets: `root`, or else `$LTH_DATA_DIR`, or else `~/.cache/lth/data`. It need not exist."""
    if root is None:
        root = Path(os.environ.get("LTH_DATA_DIR") or "~/.cache/lth/data")
    return Path(root).expanduser()


def needed_of(name: str, **given: str | None) -> str | None:
    """What is wrong with the `path` and `target` given for a registered data set; None if nothing is."""
    for field, value in given.items():
        takers = sorted(key for key in DATASETS if getattr(DATASETS[key], f"takes_{field}"))
        if (value is not None) != (name in takers):
            what = {"path": "its folder below LTH_DATA_DIR", "target": "the column to learn"}.get(field, field)
            belongs = " and ".join(f"`{key}`" for key in takers)
            if value is None:
                return f"data set {name!r} needs dataset.{field}, {what}, and got None; give it"
            return f"dataset.{field} belongs to {belongs} only, and {name!r} takes none; leave {value!r} out"
    return None


def load_dataset(
    name: str,
    root: Path | None = None,
    path: str | None = None,
    target: str | None = None,
    target_kind: str | None = None,
) -> DataSet:
    """Load a registered data set and check it.

    Args:
        name: one of `dataset_names()`.
        root: folder of the data sets; see `data_root` for the default.
        path: folder below `root`, for data sets that ask for one (`parquet`, `table`).
        target: name of the column to learn, for data sets that ask for one (`table`).
        target_kind: `class` or `number`, where what the column holds should not decide it.

    Raises:
        DataError: unknown name, a path or target given where none is wanted or missing where one is, or data that are
            absent, damaged or unusable.
    """
    if name not in DATASETS:
        raise DataError(unknown("data set", name, list(DATASETS)))
    dataset = DATASETS[name]
    wrong = needed_of(name, path=path, target=target)
    if wrong:
        raise DataError(wrong)
    column = {"target": target, "target_kind": target_kind} if dataset.takes_target else {}
    data = dataset.load(data_root(root), *([path] if dataset.takes_path else []), **column)
    data.check()
    return data
