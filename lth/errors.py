"""Errors that a person can mend: one line that names the value at fault and the remedy."""

from __future__ import annotations

import re


class LthError(Exception):
    """A mistake or a condition that the reader of the message can mend. Its text is one clear line."""


class InvalidExperiment(LthError):
    """The experiment, the seeds or an option does not make sense; nothing has been started."""


class Untrusted(LthError):
    """What a store or a ticket names would have to be imported, and nobody said that it may be."""


class DataError(LthError):
    """A data set is missing, damaged or unusable."""


class StoreError(LthError):
    """The store cannot be reached, read or written."""


class DamagedObject(StoreError):
    """An object of the store does not hold what was written. `key` names it where it is known."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class NotDeterministic(StoreError):
    """The same unit was computed twice with different results."""


def in_one_line(error: BaseException) -> str:
    """The kind of an error and the first line of its text, without colours: torch's errors often have many."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    return ": ".join([type(error).__name__, *text.splitlines()[:1]])
