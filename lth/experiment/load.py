"""Reading an experiment: a preset's name or a YAML file, then `key=value` settings; one clear line for a mistake."""

from __future__ import annotations

import difflib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lth import yaml_text
from lth.errors import InvalidExperiment
from lth.experiment.hints import meant, of_command
from lth.experiment.one_of import kinds_of
from lth.experiment.spec import Experiment
from lth.trust import run_code_of

# Fields that are one of several kinds: pydantic puts the kind ("adam") after them in an error's path.
_KINDS = ("optimizer", "schedule", "rewinding", "objective")
_LISTS_OF_KINDS = ("watchers",)


def preset_names() -> list[str]:
    """Names of the experiments that come with the package."""
    return sorted(
        Path(entry.name).stem for entry in resources.files("lth.presets").iterdir() if entry.name.endswith(".yaml")
    )


def preset_text(name: str) -> str:
    """The YAML of a preset, as a person would write it."""
    return (resources.files("lth.presets") / f"{name}.yaml").read_text()


def read_yaml(text: str, source: str) -> dict[str, Any]:
    """A YAML mapping of plain data; tags that would build Python objects are refused."""
    try:
        content = yaml_text.load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        problem = ", ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", None))))
        problem = problem or (str(error).splitlines() or ["it is no YAML"])[0]
        raise InvalidExperiment(f"{source}{line}: {problem}") from None
    if content is None:
        raise InvalidExperiment(f"{source} is empty: an experiment is a mapping of fields, e.g. `preset: digits`")
    if not isinstance(content, dict):
        raise InvalidExperiment(f"{source}: an experiment is a mapping of fields, not {type(content).__name__}")
    return content


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` over `base`, part by part."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if key == "fraction" and isinstance(old, int | float) and isinstance(value, dict):
            old = {"dense": old, "conv": old}  # one number stands for both: changing one leaves the other
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merge(_still_meant(key, old, value), value)
        else:
            merged[key] = value
    return merged


def _still_meant(key: str, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What of a part still holds under its changes: sgd does not inherit adam's betas, nor conv2 an mlp's widths."""

    def changed(field: str) -> bool:
        return field in old and field in new and old[field] != new[field]

    if changed("kind"):
        return {}
    if key == "model" and changed("name"):
        return {field: content for field, content in old.items() if field == "initialisation"}
    return old


def _setting(text: str) -> dict[str, Any]:
    key, separator, value = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not separator or not all(parts):
        raise InvalidExperiment(f"--set {text!r} is not key=value; e.g. --set training.duration=2000it")
    try:
        content = yaml_text.load(value)
    except yaml.YAMLError:
        content = value
    for part in reversed(parts):
        content = {part: content}
    return dict(content)


def explain(error: ValidationError, model: type[BaseModel] = Experiment) -> str:
    """Every mistake of a validation error on one line: where, what, and what would be right."""
    items = error.errors(include_url=False)
    # Pydantic calls a list too short when all of its entries are wrong; those are named already.
    items = [item for item in items if item["type"] != "too_short" or not item["input"]]
    return " ".join("; ".join(dict.fromkeys(_mistake(item, model) for item in items)).splitlines())


def _mistake(item: ErrorDetails, model: type[BaseModel]) -> str:
    location = [str(part) for part in item["loc"]]
    path = [part for at, part in enumerate(location) if not _is_kind(location, at)]
    if path[:2] == ["model", "arguments"]:
        path = path[:3]  # pydantic goes on with the types of JSON that it tried
    where, given = ".".join(path), repr(item["input"])
    message = item["msg"].removeprefix("Value error, ")
    match item["type"]:
        case "value_error":
            return message if not where or message.startswith(where) else f"{where}: {message}"
        case "extra_forbidden":
            return _no_such_field(path, location, item["input"], model)
        case "missing":
            message = "is missing; give it"
        case "union_tag_invalid":
            kinds, got = ", ".join(sorted(_kinds(model, path))), item["ctx"]["tag"]
            message = f"kind is one of {kinds}; got {got!r}" if got else f"kind is missing; give one of {kinds}"
        case "string_pattern_mismatch" if path == ["name"]:
            message = (
                f"{given} cannot name an experiment; use letters, digits, - and _, "
                "beginning with a letter or digit, at most 64"
            )
        case "greater_than" | "less_than" if path[:2] == ["pruning", "fraction"]:
            message = f"a fraction is above 0 and below 1, got {given}; leave it empty (null) for layers never pruned"
        case "greater_than" | "less_than" if path == ["margin"]:
            message = f"a fraction above 0 and below 1, e.g. 0.005 for half a percentage point; got {given}"
        case "tuple_type" | "too_short":
            message = f"must be a list with at least one entry, e.g. [{_example(path)}]; got {given}"
        case "model_type" | "model_attributes_type" | "dict_type":
            message = f"must be a group of fields; got {given}{_as_group(path, item['input'], model)}"
        case _:
            message = f"{message[0].lower()}{message[1:]}; got {given}"
    return f"{where}: {message}" if where else message


def _example(path: list[str]) -> str:
    return {"arms": "ticket, reinit", "milestones": "20000it, 25000it"}.get(path[-1], "...")


def _is_kind(location: list[str], at: int) -> bool:
    """Whether that part of an error's path is the kind of the field before it, or of the entry of a list."""
    return location[at - 1 : at] in [[field] for field in _KINDS] or (
        at > 1 and location[at - 2] in _LISTS_OF_KINDS and location[at - 1].isdigit()
    )


def _as_group(path: list[str], given: object, model: type[BaseModel]) -> str:
    """How a group is written that was given as a name: `model: resnet20`."""
    if not isinstance(given, str) or not path:
        return ""
    if path[-1] in (*_KINDS, *_LISTS_OF_KINDS):
        return f"; write {{kind: {given}}}"
    return f"; write {{name: {given}}}" if ".".join([*path, "name"]) in field_paths(model) else ""


def _no_such_field(path: list[str], location: list[str], given: object, model: type[BaseModel]) -> str:
    """What to write instead of an unknown field: one that is meant or spelled alike, or else those that there are."""
    where = ".".join(path)
    option = of_command(path[-1], given) if len(path) == 1 and model is Experiment else None
    if option is not None:
        return f"{where} {option}"
    return f"{where}: {_instead(path, location, given, model)}"


def _instead(path: list[str], location: list[str], given: object, model: type[BaseModel]) -> str:
    names = field_paths(model)
    parent = [part for part in path[:-1] if not part.isdigit()]
    siblings = [name.split(".")[-1] for name in names if name.split(".")[:-1] == parent]
    if parent and parent[-1] in (*_KINDS, *_LISTS_OF_KINDS):
        kinds = _kinds(model, parent)
        kind = next(part for at, part in enumerate(location) if _is_kind(location, at))
        others = [repr(other) for other, part in kinds.items() if path[-1] in part.model_fields]
        if others:
            return f"kind {kind!r} has no such field; {' and '.join(others)} {'has' if len(others) == 1 else 'have'}"
        siblings = list(kinds[kind].model_fields)
    other = meant(parent, path[-1], given, siblings, names)
    if other is not None:
        return f"no such field; did you mean {other}?"
    close = difflib.get_close_matches(path[-1], siblings, 1)
    alike = f"did you mean {'.'.join([*parent, *close])}?" if close else f"there are {', '.join(siblings)}"
    return f"no such field; {alike}"


def _kinds(model: type[BaseModel], path: list[str]) -> dict[str, type[BaseModel]]:
    """The kinds to choose from at a field, by name: adam and sgd for training.optimizer."""
    path = [name for name in path if not name.isdigit()]
    for name in path[:-1]:
        part = model.model_fields[name].annotation
        assert isinstance(part, type) and issubclass(part, BaseModel)
        model = part
    return kinds_of(model.model_fields[path[-1]])


def field_paths(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted names of every field of a model, for suggestions and documentation."""
    paths: list[str] = []
    for name, field in model.model_fields.items():
        paths.append(prefix + name)
        candidates = [field.annotation, *get_args(field.annotation), *kinds_of(field).values()]
        for candidate in candidates:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                paths.extend(path for path in field_paths(candidate, prefix + name + ".") if path not in paths)
    return paths


def build_experiment(content: dict[str, Any], settings: Sequence[str] = ()) -> Experiment:
    """An experiment from plain data and `key=value` settings. Imports nothing of what it names."""
    try:
        return Experiment.model_validate(_merge(content, _changes(settings)))
    except ValidationError as error:
        raise InvalidExperiment(explain(error)) from None


def _changes(settings: Sequence[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for setting in settings:  # among themselves first, so that their order does not matter to a change of kind
        changes = _merge(changes, _setting(setting))
    return changes


def change(experiment: Experiment, settings: Sequence[str]) -> Experiment:
    """The experiment with `key=value` settings of the user's own."""
    if not settings:
        return experiment
    run_code_in(_changes(settings))
    return build_experiment(experiment.model_dump(mode="json"), settings)


def run_code_in(content: Mapping[str, Any]) -> None:
    """`run_code_of` what the user's own plain data name."""
    imports, model = content.get("imports") or (), content.get("model")
    name = model.get("name") if isinstance(model, dict) else None
    if isinstance(imports, str | list | tuple):  # anything else is refused with the rest
        run_code_of([imports] if isinstance(imports, str) else imports, name if isinstance(name, str) else "")


def import_own(source: str, settings: Sequence[str] = ()) -> None:
    """Import the modules of the user's own experiment, which is read afterwards."""
    run_code_in(_merge(_content(source)[0], _changes(settings)))


def load_experiment(
    source: str, settings: Sequence[str] = (), taking_over: Mapping[str, Any] | None = None
) -> Experiment:
    """The experiment called `source`: a preset's name, or the path of a YAML file.

    A file may begin from a preset (`preset: lenet-mnist`) and state only what differs. With `taking_over` its data and
    training are for tickets that were found elsewhere (see `lth.sweep.transfer`). `settings` are `key=value` texts
    applied last. It is the user's own: its `imports` are imported. Raises InvalidExperiment with one line.
    """
    content, said = _content(source)
    content = content if taking_over is None else _with_tickets(content, said, taking_over)
    content = _merge(content, _changes(settings))
    run_code_in(content)
    return build_experiment(content)


def _with_tickets(content: dict[str, Any], said: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """With the network of what found the tickets; with its levels and the controls that a transfer needs, unless a file
    of the user's has `said` which."""
    levels = {name: value for name, value in (said.get("pruning") or {}).items() if name == "levels"}
    imports = content.get("imports") or []
    return {
        **content,
        "name": f"{content['name']}-from-{found['from']}"[:64],
        "model": found["model"],
        "imports": [*dict.fromkeys([*([imports] if isinstance(imports, str) else imports), *found["imports"]])],
        "pruning": {**found["pruning"], **levels},
        "rewinding": {"kind": "init"},
        "transfer": found["transfer"],
        "arms": said.get("arms") or ["ticket", "reinit", "random_mask"],
    }


def _content(source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a preset or file says, and what of it the user said in a file."""
    path = Path(source)
    if source in preset_names():
        return read_yaml(preset_text(source), f"preset {source}"), {}
    if not path.is_file():
        raise InvalidExperiment(f"{source!r} is neither a preset nor a file; {_otherwise(source)}")
    try:
        encoded = path.read_bytes()
        text = encoded.decode("utf-16" if encoded[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig")
        content = read_yaml(text, source)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidExperiment(f"{source}: cannot be read: {error}") from None
    base = content.pop("preset", None)
    if base is not None:
        if base not in preset_names():
            raise InvalidExperiment(f"{source}: unknown preset {base!r}; {_presets_like(str(base))}")
        begun = read_yaml(preset_text(base), f"preset {base}")
        if content.get("transfer"):  # how the preset would have found tickets is of no use
            begun = {name: part for name, part in begun.items() if name not in ("pruning", "rewinding")}
        said, content = content, _merge(begun, content)
    else:
        said = dict(content)
    for name in [name for name in content if isinstance(name, str) and name.startswith("x-")]:
        del content[name], said[name]  # where a file keeps parts that it merges into others, as in Compose
    content.setdefault("name", path.stem)
    return content, said


def _otherwise(source: str) -> str:
    """What to write instead of a source that is none."""
    if Path(source).is_dir():
        return "it is a folder: a store is given with --store, an exported ticket with --ticket"
    return _presets_like(source)


def _presets_like(name: str) -> str:
    close = difflib.get_close_matches(name, preset_names(), 1)
    return (f"did you mean {close[0]!r}? " if close else "") + f"presets: {', '.join(preset_names())}"
