"""A field of the experiment that is one of several registered kinds, each with settings of its own.

    optimizer: Annotated[Part, OneOf(OPTIMIZERS, "adam")]

Its kinds are those of the registry at the moment at which an experiment is read, a user's own among them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache, partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from lth.durations import to_steps
from lth.experiment.durations import Duration
from lth.experiment.section import Section
from lth.registry import Registry
from lth.settings import REQUIRED, in_steps, is_steps, setting_types


class Part(Section):
    """What an experiment says of one part: its kind and the settings of that kind."""

    kind: str

    def resolve(self, steps_per_epoch: int) -> Any:
        """The part itself, durations turned into steps."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Its settings as plain data, without the kind."""
        return {name: value for name, value in self.model_dump(mode="json").items() if name != "kind"}


def _unpickled(kind: str, part: type, description: str, settings: dict[str, Any]) -> Part:
    """A section in another process: its class is made there, of the same part."""
    return section_of(kind, part, description).model_validate(settings)


@cache
def section_of(kind: str, part: type, description: str) -> type[Part]:
    """The section of an experiment that holds the settings of a registered part.

    A part may have a static method `check(section)`, which raises ValueError for settings that do not go together;
    durations are texts there.
    """
    types = setting_types(part)
    fields: dict[str, Any] = {"kind": (Literal[kind], Field(kind, description=description))}
    for field in dataclasses.fields(part):
        if field.init:
            about = dict(field.metadata)
            default = {} if field.default is REQUIRED else {"default": _as_said(field.default, types[field.name])}
            fields[field.name] = (
                _as_pydantic(types[field.name]),
                Field(description=about.get("description"), **about.get("bounds", {}), **default),
            )

    def resolve(self: Part, steps_per_epoch: int) -> Any:
        said = {name: getattr(self, name) for name in types}
        turn = partial(to_steps, steps_per_epoch=steps_per_epoch)
        return part(**{name: in_steps(value, types[name], turn) for name, value in said.items()})

    def check(self: Part) -> Part:
        if hasattr(part, "check"):
            part.check(self)
        return self

    section = create_model(
        part.__name__,
        __base__=Part,
        __doc__=part.__doc__,
        __module__=part.__module__,
        __validators__={"check_together": model_validator(mode="after")(check)},  # type: ignore[dict-item]
        **fields,
    )

    def reduce(self: Part) -> tuple[Any, ...]:
        return _unpickled, (kind, part, description, self.model_dump(mode="json"))

    section.resolve = resolve  # type: ignore[method-assign]
    section.__reduce__ = reduce  # type: ignore[method-assign,assignment]
    return section


def _as_pydantic(kind: Any) -> Any:
    """The type of a setting as a field: durations where the part has steps."""
    if is_steps(kind):
        return Duration
    if get_origin(kind) is Annotated or not get_args(kind) or get_origin(kind) is Literal:
        return kind
    arguments = tuple(each if each is Ellipsis else _as_pydantic(each) for each in get_args(kind))
    return tuple.__class_getitem__(arguments) if get_origin(kind) is tuple else Union.__getitem__(arguments)


def _as_said(default: Any, kind: Any) -> Any:
    """A default of the part as an experiment would say it."""
    if is_steps(kind) or any(is_steps(each) for each in get_args(kind)):
        if isinstance(default, tuple):
            return tuple(f"{each}it" for each in default)
        return None if default is None else f"{default}it"
    return default


@dataclasses.dataclass(frozen=True, eq=False)
class OneOf:
    """Marks a field as one of the kinds in a registry of parts; a part that does not say its kind is of the default."""

    registry: Registry[Any]
    default: str
    without: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Kinds that nobody chooses, as they are there by themselves, and what to do instead."""

    def sections(self) -> dict[str, type[Part]]:
        """The section of each kind, by its name."""
        return {
            kind: section_of(kind, self.registry[kind], self.registry.description(kind))
            for kind in self.registry
            if kind not in self.without
        }

    def make(self, **settings: Any) -> Part:
        """The part of the default kind."""
        return self.validate({"kind": self.default, **settings})

    def validate(self, value: object) -> Part:
        """A section from what an experiment says; pydantic's errors name the kind after the field."""
        if isinstance(value, Part) and value.kind in self.sections() and type(value) is self.sections()[value.kind]:
            return value
        if not isinstance(value, Mapping):
            raise PydanticCustomError("model_type", "must be a group of fields")
        kind = value.get("kind", self.default)
        if not isinstance(kind, str):
            raise PydanticCustomError("union_tag_invalid", "unknown kind {tag}", {"tag": kind})
        sections = self.sections()
        if kind in self.without:
            said = {"tag": repr(kind), "instead": self.without[kind]}
            raise PydanticCustomError("value_error", "{tag} is always there by itself: {instead}", said)
        if kind not in sections:
            raise PydanticCustomError("union_tag_invalid", "unknown kind {tag}", {"tag": kind})
        try:
            return sections[kind].model_validate(dict(value) | {"kind": kind})
        except ValidationError as error:
            raise ValidationError.from_exception_data(
                error.title,
                [
                    InitErrorDetails(
                        type=item["type"], loc=(kind, *item["loc"]), input=item["input"], ctx=item.get("ctx", {})
                    )
                    for item in error.errors(include_url=False)
                ],
            ) from None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Written as the section that it is: pydantic turns a Ctrl-C within a function into an error.
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"oneOf": [section.model_json_schema() for section in self.sections().values()]}


def kinds_of(info: FieldInfo) -> dict[str, type[BaseModel]]:
    """The sections that a field can be, by kind; none if it is not one of several."""
    for marker in (*info.metadata, *(part for each in get_args(info.annotation) for part in get_args(each))):
        if isinstance(marker, OneOf):
            return dict(marker.sections())
    return {}
