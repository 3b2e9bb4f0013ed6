"""Every registry of what an experiment can name, in one table: `lth list`, the guide and the tests read it."""

from __future__ import annotations

import importlib
from typing import Any

from lth.registry import Registry

REGISTRIES = {
    "arms": "lth.arms:ARMS",
    "criteria": "lth.pruning:CRITERIA",
    "unit-criteria": "lth.structured:UNIT_CRITERIA",
    "datasets": "lth.data:DATASETS",
    "evidence": "lth.engine.evidence:EVIDENCE",
    "mask-sources": "lth.pruning.sources:MASK_SOURCES",
    "models": "lth.models:MODELS",
    "objectives": "lth.objectives:OBJECTIVES",
    "optimizers": "lth.engine.optimizers:OPTIMIZERS",
    "rewinds": "lth.rewinding:REWINDS",
    "schedules": "lth.engine.schedules:SCHEDULES",
    "scopes": "lth.pruning:SCOPES",
    "scores": "lth.objectives:SCORES",
    "watchers": "lth.engine.watchers:WATCHERS",
}
"""Where each registry stands, as `module:NAME`. Importing that module registers all that the package brings."""


def registry_of(what: str) -> Registry[Any]:
    """The registry that `lth list` knows by that word."""
    module, _, name = REGISTRIES[what].partition(":")
    found: Registry[Any] = getattr(importlib.import_module(module), name)
    return found
