"""A field of the experiment that is a name in a registry.

    scope: Annotated[str, NameIn(SCOPES)]

Its names are those of the registry at the moment at which an experiment is read, a user's own among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from lth.experiment.section import known
from lth.registry import Registry


@dataclass(frozen=True, eq=False)
class NameIn:
    """Marks a text as a name in a registry."""

    registry: Registry[Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(name: str) -> str:
            return known(self.registry.kind, name, list(self.registry))

        return core_schema.no_info_after_validator_function(check, core_schema.str_schema())

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": sorted(self.registry)}
