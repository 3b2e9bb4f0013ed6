"""Reading an experiment: a preset's name or a YAML file, then `key=value` settings; one clear line for a mistake."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from lth.errors import InvalidExperiment
from lth.experiment.spec import Experiment


class _StrictLoader(yaml.SafeLoader):
    """Plain data only, and no key twice (YAML would keep the last one silently)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} appears twice",
                                                        key_node.start_mark)
            seen.add(key if isinstance(key, str) else None)
        return super().construct_mapping(node, deep)


def preset_names() -> list[str]:
    """Names of the experiments that come with the package."""
    return sorted(Path(entry.name).stem for entry in resources.files("lth.presets").iterdir()
                  if entry.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """The YAML of a preset, as a person would write it."""
    return (resources.files("lth.presets") / f"{name}.yaml").read_text()


def read_yaml(text: str, source: str) -> dict[str, Any]:
    """A YAML mapping of plain data; tags that would build Python objects are refused."""
    try:
        content = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        if "python/" in str(problem):
            problem = "a tag that would build a Python object; an experiment is plain data"
        raise InvalidExperiment(f"{source}{line}: {problem}") from None
    if not isinstance(content, dict):
        raise InvalidExperiment(f"{source}: an experiment is a mapping of fields, not {type(content).__name__}")
    return content


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` over `base`. A part whose `kind` changes starts afresh: sgd does not inherit adam's betas."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and value.get("kind", old.get("kind")) == old.get("kind"):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _setting(text: str) -> dict[str, Any]:
    key, separator, value = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not separator or not all(parts):
        raise InvalidExperiment(f"--set {text!r} is not key=value; e.g. --set training.duration=2000it")
    try:
        content = yaml.load(value, Loader=_StrictLoader)
    except yaml.YAMLError:
        content = value
    for part in reversed(parts):
        content = {part: content}
    return dict(content)


def explain(error: ValidationError, model: type[BaseModel] = Experiment) -> str:
    """Every mistake of a validation error on one line: where, what, and what would be right."""
    lines = []
    for item in error.errors(include_url=False):
        # Tags of unions ("adam", "step") follow their field in pydantic's path, but are not in the file's.
        location = [str(part) for part in item["loc"]]
        path = [part for before, part in zip(["", *location], location, strict=False)
                if before not in ("optimizer", "schedule", "rewinding")]
        where = ".".join(path)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            names = field_paths(model)
            close = difflib.get_close_matches(where, names, 1) or [
                name for name in names if name.split(".")[-1] == path[-1]]
            message = "no such field" + (f"; did you mean {close[0]}?" if close else "")
        elif item["type"] == "string_pattern_mismatch" and path == ["name"]:
            message = (f"{item['input']!r} cannot name an experiment; use letters, digits, - and _, "
                       "beginning with a letter or digit, at most 64")
        elif path[:2] == ["pruning", "fraction"] and item["type"] in ("greater_than", "less_than"):
            message = (f"a fraction is above 0 and below 1, got {item['input']!r}; "
                       "leave it empty (null) for layers that are never pruned")
        elif item["type"] not in ("value_error", "missing") and not isinstance(item.get("input"), dict):
            message = f"{message[0].lower()}{message[1:]}; got {item['input']!r}"
        lines.append(f"{where}: {message}" if where and not message.startswith(where) else message)
    return "; ".join(dict.fromkeys(lines))


def field_paths(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted names of every field of a model, for suggestions and documentation."""
    from typing import get_args

    paths: list[str] = []
    for name, field in model.model_fields.items():
        paths.append(prefix + name)
        candidates = [field.annotation, *get_args(field.annotation)]
        for candidate in candidates:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                paths.extend(path for path in field_paths(candidate, prefix + name + ".") if path not in paths)
    return paths


def build_experiment(content: dict[str, Any], settings: Sequence[str] = ()) -> Experiment:
    """An experiment from plain data and `key=value` settings."""
    for setting in settings:
        content = _merge(content, _setting(setting))
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        raise InvalidExperiment(explain(error)) from None


def load_experiment(source: str, settings: Sequence[str] = ()) -> Experiment:
    """The experiment called `source`: a preset's name, or the path of a YAML file.

    A file may begin from a preset (`preset: lenet-mnist`) and state only what differs. `settings` are `key=value`
    texts applied last. Raises InvalidExperiment with one line.
    """
    path = Path(source)
    if source in preset_names():
        return build_experiment(read_yaml(preset_text(source), f"preset {source}"), settings)
    if not path.is_file():
        close = difflib.get_close_matches(source, preset_names(), 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise InvalidExperiment(
            f"{source!r} is neither a preset nor a file; {hint}presets: {', '.join(preset_names())}")
    try:
        content = read_yaml(path.read_text(encoding="utf-8"), source)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidExperiment(f"{source}: cannot be read: {error}") from None
    base = content.pop("preset", None)
    if base is not None:
        if base not in preset_names():
            raise InvalidExperiment(f"{source}: unknown preset {base!r}; known: {', '.join(preset_names())}")
        content = _merge(read_yaml(preset_text(base), f"preset {base}"), content)
    content.setdefault("name", path.stem)
    return build_experiment(content, settings)
