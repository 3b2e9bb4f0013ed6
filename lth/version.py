"""The package's version, and that of what computes, for whatever says which code made a result."""

__version__ = "0.1.0"

ENGINE_VERSION = "1"
"""Raised with whatever changes a bit of a result; tests/engine/test_engine_version.py holds known bits. A release that
changes none keeps it, and a sweep that another release began goes on."""
