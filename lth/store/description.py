"""What a store says of an experiment, read as plain data and held against its id: others may have written it."""

from __future__ import annotations

from typing import Any

import yaml

from lth import yaml_text
from lth.identity import experiment_id

MOST_BYTES = 4_000_000
"""Of an experiment.yaml: a thousand times as many as it has."""


def read_description(text: str, identifier: str) -> dict[str, Any]:
    """The content of `experiment.yaml`. Raises ValueError, which says why, if it is none or is not of that id."""
    if len(text) > MOST_BYTES:
        raise ValueError(f"it has {len(text):,} characters")
    try:
        content = yaml_text.load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"it cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict) or "data_sha256" not in content:
        raise ValueError("it does not describe an experiment")
    if "experiment" in content:
        try:
            described = experiment_id(content["experiment"])
            str(content["experiment"]["model"]["name"])
        except (TypeError, KeyError, ValueError, AttributeError, RecursionError) as error:
            raise ValueError(f"its experiment is not complete ({type(error).__name__}: {error})") from None
        if described != identifier:
            raise ValueError(f"what it describes has the id {described}")
    return content
