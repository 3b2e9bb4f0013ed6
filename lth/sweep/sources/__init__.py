"""Where tickets come from: cut here, or taken over; each source a file of its own, and one function that chooses."""

from lth.sweep.sources.choice import source_of
from lth.sweep.sources.source import Start, TicketSource, UnitPruner

__all__ = ["Start", "TicketSource", "UnitPruner", "source_of"]
