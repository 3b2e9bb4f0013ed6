"""Things of one kind by name: criteria, arms, models. Descriptions too, and one clear error for a wrong name."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from lth.errors import InvalidExperiment, in_one_line

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """What experiments can name. Registering the same definition again, as notebooks do, is fine; another is not."""

    def __init__(self, kind: str, contract: object = None) -> None:
        """`contract` is the class whose docstring says what every entry promises."""
        self.kind, self.contract = kind, contract
        self._entries: dict[str, tuple[T, str, tuple[str, str]]] = {}
        self._definitions: dict[str, object] = {}

    def add(self, name: str, value: T, description: str, definition: object) -> None:
        """Make `value` known as `name`; `definition` is the function or class that it was made from."""
        where = (getattr(definition, "__module__", ""), getattr(definition, "__qualname__", ""))
        if name in self._entries and self._entries[name][2] != where:
            raise InvalidExperiment(
                f"{_a(self.kind)} named {name!r} is registered already, by "
                f"{self._entries[name][2][0]}; choose another name"
            )
        self._entries[name] = (value, description, where)
        self._definitions[name] = definition

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise InvalidExperiment(unknown(self.kind, name, list(self._entries)))
        return self._entries[name][0]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def description(self, name: str) -> str:
        """The one-line description of a name."""
        return self._entries[name][1]

    def definition(self, name: str) -> object:
        """The function or class that an entry was made from."""
        return self._definitions[name]

    def names(self) -> dict[str, str]:
        """Every name and its one-line description, in alphabetical order."""
        return {name: description for name, (_, description, _) in sorted(self._entries.items())}


def unknown(kind: str, name: str, names: Sequence[str]) -> str:
    """What to say of a name that nobody registered."""
    close = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown {kind} {name!r}; {hint}known: {', '.join(sorted(names))}"


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def import_module(name: str, field: str) -> object:
    """Import a user's module by name, also from the folder that a command was started in.

    Raises InvalidExperiment naming `field` of the experiment.
    """
    # A command started as a program does not search the folder that it is started in; a user's module lies there.
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a script that is imported may well call sys.exit()
        raise InvalidExperiment(
            f"{field}: importing {name!r} failed: {in_one_line(error)}; it must be importable from here"
        ) from None
    top = name.partition(".")[0]
    found = Path(getattr(sys.modules[top], "__file__", None) or here).resolve()
    mine = [file for file in (Path(here, f"{top}.py"), Path(here, top, "__init__.py")) if file.is_file()]
    if mine and not found.is_relative_to(Path(here).resolve()):
        raise InvalidExperiment(
            f"{field}: {name!r} is {found}, which hides {mine[0]}; give your module a name that nothing else has"
        )
    return module
