"""Units that another sweep of the same experiment is at: left to it, and asked for again after a while."""

from __future__ import annotations

import time

from lth.store import Owner, Unit
from lth.sweep.opening import Log
from lth.sweep.progress import Notice, emit

ASK_AGAIN = 2.0
"""Seconds after which a unit that another sweep is at is asked for again."""


class ClaimedElsewhere(Exception):
    """Another sweep is at the unit."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(str(owner))
        self.owner = owner


class UnitsElsewhere:
    """The units that were left to others, for as long as they are."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self._again: dict[Unit, float] = {}
        self._named: set[Owner] = set()

    def __bool__(self) -> bool:
        return bool(self._again)

    def leave(self, unit: Unit, owner: Owner) -> None:
        """The unit is left to another sweep for now; that this happens is said once."""
        pause = ASK_AGAIN * min(max(1.0, len(self._again) / 16), 10.0)  # never long enough to seem not to look
        self._again[unit] = time.monotonic() + pause
        if owner not in self._named:
            self._named.add(owner)
            text = (
                f"another sweep of this experiment, {owner}, is at some of the units: they are left to it; should "
                "it hang, end it and they are done here"
            )
            self.log.info(text)
            emit(Notice(text))

    def may_ask(self, unit: Unit) -> bool:
        """Whether it is time to ask for the unit (again)."""
        return self._again.get(unit, 0.0) <= time.monotonic()

    def end(self, unit: Unit) -> None:
        """The unit is done, by whomever."""
        self._again.pop(unit, None)
