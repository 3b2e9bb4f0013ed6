"""What all parts of an experiment share: frozen, strict, and errors that name the value and the remedy."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, model_validator

from lth.experiment.durations import comparable
from lth.registry import unknown


class Section(BaseModel):
    """A frozen part of an experiment; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _yes_is_no_number(cls, fields: object) -> object:
        # Python takes True for the number 1.
        for name, value in fields.items() if isinstance(fields, dict) else ():
            if isinstance(value, bool) and name in cls.model_fields and cls.model_fields[name].annotation is not bool:
                raise ValueError(
                    f"{name} is {value!r}, but it is no yes-or-no field; write numbers in digits, "
                    "and quote a text such as 'true'"
                )
        return fields


def known(kind: str, name: str, names: list[str]) -> str:
    if name not in names:
        raise ValueError(unknown(kind, name, names))
    return name


def not_longer(field: str, part: str, whole: str) -> None:
    """Refuse a duration that is past the end of the training, where units allow the comparison."""
    if comparable(part, whole) and int(part[:-2]) > int(whole[:-2]):
        raise ValueError(f"{field} is {part}, past the end of a training of {whole}; make it at most {whole}")
