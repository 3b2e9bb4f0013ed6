"""Lottery tickets at scale. The science and the storage; knows nothing of Prefect or Ray."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lth.version import __version__

if TYPE_CHECKING:
    from lth.tickets import PortableTicket

__all__ = ["__version__", "load_ticket"]


def load_ticket(path: str | Path) -> PortableTicket:
    """A ticket that `lth export` wrote, by its folder or its `ticket.safetensors`; see `lth.tickets.PortableTicket`."""
    from lth.tickets import load_ticket as load

    return load(path)
