"""What a store says of an experiment, read as plain data and held against its id: others may have written it."""

from __future__ import annotations

from typing import Any

import yaml

from lth.identity import experiment_id

MOST_BYTES = 4_000_000
"""Of an experiment.yaml: a thousand times as many as it has."""


class _StrictLoader(yaml.SafeLoader):
    """Plain data without aliases, which a few hundred bytes can nest into more than any memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases")
        return super().compose_node(parent, index)


def read_description(text: str, identifier: str) -> dict[str, Any]:
    """The content of `experiment.yaml`. Raises ValueError, which says why, if it is none or is not of that id."""
    if len(text) > MOST_BYTES:
        raise ValueError(f"it has {len(text):,} characters")
    try:
        content = yaml.load(text, Loader=_StrictLoader)
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
