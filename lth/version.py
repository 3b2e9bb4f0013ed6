"""The package's version, for whatever says which code made a result."""

__version__ = "0.1.0"
