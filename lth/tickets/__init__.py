"""Tickets to take away: a mask with its weights in a file, where it came from, and what it scores."""

from lth.tickets.formats import FORMATS, save
from lth.tickets.portable import Card, PortableTicket, load_ticket, read_file, read_ticket

__all__ = ["FORMATS", "Card", "PortableTicket", "load_ticket", "read_file", "read_ticket", "save"]
