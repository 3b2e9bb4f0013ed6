"""The form in Prefect's UI: an experiment as a person fills it in, and how it becomes an `Experiment`.

Every field of `Changes` is one of the experiment's, with its explanation, type and bounds; menus come from the
registries. A field that is left empty is as in the preset.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, create_model, model_serializer
from pydantic.fields import FieldInfo
from pydantic.json_schema import SkipJsonSchema

from lth.arms import arm_names
from lth.data import dataset_names
from lth.experiment import Execution, Experiment, load_experiment
from lth.experiment.load import preset_names
from lth.experiment.one_of import kinds_of
from lth.pruning import SCOPES, criterion_names
from lth.pruning.sources import MASK_SOURCES
from lth.rewinding import REWINDS
from lth.sweep.cohort_size import LARGE_SWEEP

_Nothing: TypeAlias = SkipJsonSchema[None]


class FormSection(BaseModel):
    """A group of the form: unknown fields are refused, empty ones are not sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_serializer
    def _given(self) -> dict[str, Any]:
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) not in (None, [])}


def _field_of(model: type[BaseModel], path: str) -> FieldInfo:
    """The field `training.duration` of a model, through its parts."""
    name, _, rest = path.partition(".")
    info = model.model_fields[name]
    if not rest:
        return info
    parts = [*kinds_of(info).values(), info.annotation]
    part: Any = next(part for part in parts if rest.partition(".")[0] in getattr(part, "model_fields", {}))
    return _field_of(part, rest)


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


def _optional(kind: Any, title: str, description: str, bounds: Mapping[str, Any] | None = None) -> tuple[Any, Any]:
    """A field that may stay empty, without the `null` that would turn it into a choice of types on the screen."""
    limited: Any = Annotated[kind, Field(**bounds or {})]
    field: Any = Field(
        None, title=title, description=description + _range(bounds or {}), json_schema_extra=_without_default
    )
    return limited | _Nothing, field


def _bounds(info: FieldInfo) -> dict[str, Any]:
    """Limits of a number or text, as pydantic keeps them."""
    limits = {}
    for constraint in info.metadata:
        for name in ("gt", "ge", "lt", "le", "pattern", "max_length"):
            if (limit := getattr(constraint, name, None)) is not None:
                limits[name] = limit
    return limits


def _menu(names: Iterable[str]) -> Any:
    return Literal[tuple(names)]


def _range(bounds: Mapping[str, Any]) -> str:
    """Limits in words, for those who fill in the form."""
    low = f"from {bounds['ge']:,}" if "ge" in bounds else f"above {bounds['gt']:g}" if "gt" in bounds else ""
    high = f"to {bounds['le']:,}" if "le" in bounds else f"below {bounds['lt']:g}" if "lt" in bounds else ""
    return f" ({' '.join(filter(None, (low, high)))})" if low or high else ""


_CHANGES: dict[str, tuple[str, Any, str]] = {  # field of the form: (field of the experiment, its type, label)
    "name": ("name", str, "Name"),
    "controls": ("arms", list[_menu(name for name in arm_names() if name != "ticket")], "Controls"),  # type: ignore[misc]
    "levels": ("pruning.levels", int, "Pruning levels"),
    "fraction": ("pruning.fraction", float, "Fraction pruned per level"),
    "criterion": ("pruning.criterion", _menu(criterion_names()), "Criterion"),
    "when": ("pruning.when", _menu(MASK_SOURCES.names()), "When to score"),
    "scope": ("pruning.scope", _menu(SCOPES.names()), "Scope"),
    "schedule": ("pruning.schedule", Literal["iterative", "one_shot"], "Schedule"),
    "densities": ("pruning.densities", list[Annotated[float, Field(gt=0, le=1)]], "Densities"),
    "rewinding": ("rewinding", _menu(REWINDS.names()), "Rewinding"),
    "rewind_step": ("rewinding.step", str, "Rewind to step"),
    "duration": ("training.duration", str, "Training duration"),
    "learning_rate": ("training.optimizer.learning_rate", float, "Learning rate"),
    "batch_size": ("training.batch_size", int, "Batch size"),
    "dataset": ("dataset.name", _menu(dataset_names()), "Data set"),
    "margin": ("margin", float, "Margin for matching"),
}
URL_WITHOUT_KEYS = r"^([a-z0-9]+://)?[^@:]*(:[0-9]{1,5}(/[^@:]*)?)?$"
"""What is submitted is written down: keys in a URL are refused before that."""
DURATION_PATTERN = r"^[0-9]+(it|ep)$"
_FORM_BOUNDS: dict[str, dict[str, Any]] = {
    "fraction": {"gt": 0, "lt": 1},
    "duration": {"pattern": DURATION_PATTERN},
    "rewind_step": {"pattern": DURATION_PATTERN},
}
_DESCRIPTIONS = {
    "controls": "What is trained at every level besides the ticket, to compare it with. Several draws of one: say "
    "`arms=[ticket, reinit:3]` under Settings.",
    "fraction": "Part of the remaining weights (or units) that a level removes. Other ones for convolutions and dense "
    "layers: say `pruning.fraction={conv: 0.1, dense: 0.2}` under Settings.",
    "rewinding": " ".join(
        ["Where training starts from again.", *(f"`{kind}`: {text}" for kind, text in REWINDS.names().items())]
    ),
    "rewind_step": "For Rewinding `step`: the step of the dense training whose weights, data order and learning rate "
    "training resumes from, as `500it` or epochs as `3ep`.",
}


def _changes() -> type[FormSection]:
    fields: dict[str, Any] = {}
    for name, (path, kind, title) in _CHANGES.items():
        info = _field_of(Experiment, path)
        bounds = {**(_bounds(info) if kind in (int, float, str) else {}), **_FORM_BOUNDS.get(name, {})}
        fields[name] = _optional(kind, title, _DESCRIPTIONS.get(name, info.description or ""), bounds)
    return create_model(
        "Changes", __base__=FormSection, __doc__="What differs from the preset. Empty: as in the preset.", **fields
    )


Changes = _changes()


_EXECUTION = {
    "device": "Device",
    "cohort_size": "Seeds a cohort",
    "threads": "Threads a cohort",
    "gpu_share": "GPU share",
    "save_every": "Seconds between saves",
}


def _advanced() -> type[FormSection]:
    fields: dict[str, Any] = {
        "settings": (
            list[str],
            Field(
                default_factory=list,
                title="Settings",
                description="Any field of the experiment, one an entry, as the "
                "command line's `--set`: e.g. `model.arguments.hidden=[300, 100]` or `training.optimizer.kind=sgd`.",
            ),
        ),
        "store": _optional(
            str,
            "Store",
            "Where results go: `s3://bucket/prefix` or a folder; empty: the worker's `LTH_STORE`.",
            {"pattern": URL_WITHOUT_KEYS},
        ),
    }
    for name, title in _EXECUTION.items():
        info = Execution.model_fields[name]
        kinds = [kind for kind in get_args(info.annotation) if kind is not type(None)]
        kind = kinds[0] if kinds and isinstance(kinds[0], type) else info.annotation
        fields[name] = _optional(kind, title, info.description or "", _bounds(info))
    fields["large"] = _optional(
        bool, "Large sweep", f"Needed for more than {LARGE_SWEEP:,} trainings, which are more often a slip than a wish."
    )
    return create_model(
        "Advanced",
        __base__=FormSection,
        __doc__="Any other field of the experiment, and how the machines are used.",
        **fields,
    )


Advanced = _advanced()


def execution_of(advanced: FormSection) -> Execution:
    """The machines' part of a filled-in form."""
    given = advanced.model_dump()
    return Execution(**{name: given[name] for name in _EXECUTION if name in given})


Preset = _menu(preset_names())
Seeds = Annotated[str, Field(pattern=r"^[0-9]+(-[0-9]+)?( *, *[0-9]+(-[0-9]+)?)*$")]


def experiment_of(preset: str, changes: FormSection, settings: list[str]) -> Experiment:
    """The experiment that a filled-in form means. Raises InvalidExperiment in the command line's words."""
    return load_experiment(preset, settings_of(changes, settings))


def settings_of(changes: FormSection, settings: list[str]) -> list[str]:
    """The form as `--set` would say it."""
    given = changes.model_dump()
    if "controls" in given:
        given["controls"] = ["ticket", *given["controls"]]
    if "rewind_step" in given:
        given["rewinding"] = {"kind": given.get("rewinding", "step"), "step": given.pop("rewind_step")}
    elif "rewinding" in given:
        given["rewinding"] = {"kind": given["rewinding"]}
    return [*(f"{_CHANGES[name][0]}={json.dumps(value)}" for name, value in given.items()), *settings]
