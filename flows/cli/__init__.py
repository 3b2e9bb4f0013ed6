"""The command line `lth`."""

from flows.cli.main import main

__all__ = ["main"]
