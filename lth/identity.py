"""Canonical JSON and its digest, and what of an experiment its id stands for: the same on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

UNSAID_OBJECTIVE = {"kind": "classification", "score": "accuracy"}
"""What every experiment learnt before there were objectives."""


def canonical_json(content: Any) -> str:
    """JSON with sorted keys, no spaces, ASCII only, shortest round-trip floats; NaN and infinity are refused."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(content: Any) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def deciding(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """What decides one training, of an experiment as plain data with every field said: the content of its id."""
    apart = ("name", "arms", "margin", "imports")
    content = {name: value for name, value in experiment.items() if name not in apart}
    content["pruning"] = {name: value for name, value in content["pruning"].items() if name != "levels"}
    # What came later and is not said is no part of an id, so that all others keep those that they had before.
    content = _without(content, transfer=None, objective=UNSAID_OBJECTIVE)
    content["pruning"]["scoring"] = _without(content["pruning"]["scoring"], mode="train", halves=False)
    content["training"] = _without(content["training"], clip_norm=None, watchers=[])
    content["dataset"] = _without(content["dataset"], target=None, target_kind=None)  # nor were there tables
    return content


def experiment_id(experiment: Mapping[str, Any]) -> str:
    """`<name>-<10 hex>` of an experiment as plain data with every field said."""
    return f"{experiment['name']}-{digest(deciding(experiment))[:10]}"


def _without(part: Mapping[str, Any], **unsaid: Any) -> dict[str, Any]:
    """A part without those of its fields that have this value."""
    return {name: value for name, value in part.items() if name not in unsaid or value != unsaid[name]}
