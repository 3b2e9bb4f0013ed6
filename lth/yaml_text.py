"""YAML 1.2 as plain data: its core schema, so that 1e-5 is a number and `no` a word; no key twice; bounded."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from typing import Any, ClassVar

import yaml
from yaml.composer import Composer
from yaml.constructor import BaseConstructor, ConstructorError, SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

MOST_VALUES = 100_000
"""Values that a document may hold, those that aliases repeat counted each time."""
DEEPEST = 50
MOST_DIGITS = 100
LARGEST_TEXT = 1_000_000
"""Characters."""
_TAG = "tag:yaml.org,2002:"
_CORE = {  # https://yaml.org/spec/1.2.2/#103-core-schema, and the merge key of YAML 1.1
    "null": (r"~|null|Null|NULL|", "~nN"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "merge": (r"<<", "<"),
}


class _Resolver(BaseResolver):
    """Which plain words are numbers and the like."""


for _kind, (_pattern, _first) in _CORE.items():
    _Resolver.add_implicit_resolver(
        _TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), [*_first, *([""] if _kind == "null" else [])]
    )


class _Loader(Reader, Scanner, Parser, Composer, SafeConstructor, _Resolver):
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}  # none of those of YAML 1.1

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        _Resolver.__init__(self)

    def construct_document(self, node: yaml.Node) -> Any:
        _check_size(node)
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise ConstructorError(None, None, "!!map is of a mapping", node.start_mark)
        seen = set()
        for key_node, _ in node.value:
            merge = key_node.tag == _TAG + "merge"
            key = "<<" if merge else self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise ConstructorError(None, None, "found unhashable key", key_node.start_mark)
            if (type(key), key) in seen:
                raise ConstructorError(None, None, f"the key {key!r} appears twice", key_node.start_mark)
            seen.add((type(key), key))
        return super().construct_mapping(node, deep)


def _scalar(loader: _Loader, node: yaml.Node) -> Any:
    kind = node.tag.removeprefix(_TAG)
    if not isinstance(node, yaml.ScalarNode):
        raise ConstructorError(None, None, f"!!{kind} is of a single value", node.start_mark)
    text = str(node.value)
    if not re.fullmatch(_CORE[kind][0], text):
        raise ConstructorError(None, None, f"{text[:40]!r} is no {kind}", node.start_mark)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if len(text) > MOST_DIGITS:
        problem = f"a number of {len(text):,} characters; write at most {MOST_DIGITS}"
        raise ConstructorError(None, None, problem, node.start_mark)
    if kind == "int":
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if re.search(r"\.(inf|nan)", text.lower()):
        return float(text.lower().replace(".", ""))
    number = float(text)
    if math.isinf(number):
        raise ConstructorError(None, None, f"{text} is larger than any float; the largest is 1.8e308", node.start_mark)
    return number


def _unknown(loader: _Loader, node: yaml.Node) -> Any:
    tag = node.tag
    said = tag.replace(_TAG, "!!")
    problem = f"the tag {said[:60]} is none of plain data: texts, numbers, true, false, null, lists and mappings"
    if "python/" in tag:
        problem = "a tag that would build a Python object; an experiment is plain data"
    raise ConstructorError(None, None, problem, node.start_mark)


for _kind in ("null", "bool", "int", "float"):
    _Loader.yaml_constructors[_TAG + _kind] = _scalar
for _kind in ("str", "seq", "map"):
    _Loader.yaml_constructors[_TAG + _kind] = getattr(SafeConstructor, f"construct_yaml_{_kind}")
_Loader.yaml_constructors[_TAG + "merge"] = BaseConstructor.construct_scalar
_Loader.yaml_constructors[None] = _unknown


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would take for something else than a text."""


for _kind, (_pattern, _first) in _CORE.items():
    _Dumper.add_implicit_resolver(
        _TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), [*_first, *([""] if _kind == "null" else [])]
    )


def load(text: str) -> Any:
    """The one document in `text`. Raises yaml.YAMLError, with the line where it is known, for what is no YAML, a tag
    beside plain data, a key twice, an alias within itself, and what is larger than the bounds of this module."""
    if len(text) > LARGEST_TEXT:
        raise yaml.YAMLError(f"{len(text):,} characters; at most {LARGEST_TEXT:,} are read")
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except RecursionError:
        raise yaml.YAMLError(f"nested too deeply; at most {DEEPEST} levels are read") from None
    finally:
        loader.dispose()


def dump(content: Any) -> str:
    """`content` as YAML, its keys in their order; `load` and readers of YAML 1.1 get it back."""
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False))


def _check_size(document: yaml.Node) -> None:
    """Refuse what aliases or nesting make too large. Nodes that are repeated are one object: each is visited once."""
    sizes: dict[int, tuple[int, int]] = {}
    above: set[int] = set()

    def size(node: yaml.Node) -> tuple[int, int]:
        """How many values a node holds with all that is below it, and how deep that is."""
        if isinstance(node, yaml.ScalarNode):
            return 1, 1
        if id(node) in above:
            raise ConstructorError(None, None, "an alias stands within what it names", node.start_mark)
        if id(node) not in sizes:
            above.add(id(node))
            parts = [each for pair in node.value for each in (pair if isinstance(pair, tuple) else (pair,))]
            below = [size(each) for each in parts]
            above.remove(id(node))
            values, depth = 1 + sum(each for each, _ in below), 1 + max((each for _, each in below), default=0)
            if values > MOST_VALUES:
                problem = f"aliases make more than {MOST_VALUES:,} values of it; write it out, or shorter"
                raise ConstructorError(None, None, problem, node.start_mark)
            if depth > DEEPEST:
                problem = f"nested too deeply; at most {DEEPEST} levels are read"
                raise ConstructorError(None, None, problem, node.start_mark)
            sizes[id(node)] = values, depth
        return sizes[id(node)]

    size(document)
