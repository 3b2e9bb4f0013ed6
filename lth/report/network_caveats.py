"""What is to be known of a network before its densities are read, as its store has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def network_caveats(description: Mapping[str, Any]) -> list[str]:
    """Sentences of the content of an experiment.yaml, one line each; none where it says nothing of the network."""
    network = description.get("network")
    sentences = network.get("caveats") if isinstance(network, dict) else None
    return [" ".join(str(each).split()) for each in sentences] if isinstance(sentences, list) else []
