"""What a user's network can do and what it cannot, tried on copies of it before anything trains."""

from lth.inspection.inspection import Inspection, Trials, inspect_network

__all__ = ["Inspection", "Trials", "inspect_network"]
