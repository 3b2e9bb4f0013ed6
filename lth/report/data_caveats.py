"""What a reader must know of the data of an experiment, as its record says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def data_caveats(description: Mapping[str, Any]) -> list[str]:
    """One sentence each, of the content of an experiment.yaml; on one line, whatever the store holds."""
    data = description.get("data")
    found = data.get("caveats") if isinstance(data, dict) else None
    return [" ".join(str(each).split()) for each in found] if isinstance(found, list) else []
