"""The code of a user that decides results, as digests: comments, docstrings and layout do not count.

Nothing is imported to read it: modules are looked up where Python would find them, and parsed.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Iterable, Iterator
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FunctionType

OURS = frozenset({"lth", "tasks", "flows"})
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_WITHOUT_MEANING = frozenset({"ctx", "type_comment", "type_ignores", "kind"})


def digests_of_modules(names: Iterable[str]) -> dict[str, str]:
    """File -> digest, of the modules and of those beside them that they import: `helpers/layers.py` -> 16 hex.

    Of an installed package that is named, its version instead; what modules import of installed packages is not theirs.
    """
    found: dict[str, str] = {}
    waiting, seen = [(name, True) for name in names], set[str]()
    while waiting:
        name, named = waiting.pop()
        parts = name.split(".")
        if name in seen or parts[0] in OURS or parts[0] in sys.stdlib_module_names or parts[0] == "__main__":
            continue
        seen.add(name)
        spec = _spec(name)
        if spec is None or not spec.origin or not Path(spec.origin).is_file():
            continue
        file = Path(spec.origin)
        if _is_installed(file):
            if named:
                found[parts[0]] = _version(parts[0])
            continue
        package = spec.submodule_search_locations is not None
        key = "/".join(parts) + (f"/{file.name}" if package else file.suffix)
        content = file.read_bytes()
        found[key] = digest_of_code(content)
        waiting += [(".".join(parts[:length]), False) for length in range(1, len(parts))]
        waiting += [(each, False) for each in _imported(content, name if package else name.rpartition(".")[0])]
    return found


def digest_of_definition(definition: object) -> str:
    """The digest of a function or class, of a script or notebook also of what else is defined there that it names."""
    return _sha256("".join(_texts(definition, set())).encode())


def digest_of_code(content: bytes | str) -> str:
    """16 hex digits of what a program says; of what cannot be parsed, of its bytes."""
    try:
        return _sha256("".join(_words(ast.parse(content))).encode())
    except (SyntaxError, ValueError, RecursionError):
        return _sha256(content if isinstance(content, bytes) else content.encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _words(node: object) -> Iterator[str]:
    """The syntax tree in words that are the same in every version of Python."""
    if isinstance(node, ast.AST):
        yield f"{type(node).__name__}("
        for name, value in ast.iter_fields(node):
            if name == "body" and isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                value = value[1:]
            if name not in _WITHOUT_MEANING and value is not None and value != []:
                yield f"{name}="
                yield from _words(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for each in node:
            yield from _words(each)
        yield "]"
    else:
        yield f"{node!r},"


def _spec(name: str) -> ModuleSpec | None:
    """Where Python finds a module, without running those above it; a command also looks in the folder it starts in."""
    loaded = getattr(sys.modules.get(name), "__spec__", None)
    if isinstance(loaded, ModuleSpec):
        return loaded
    path: list[str] | None = None
    spec: ModuleSpec | None = None
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        spec = _found(".".join(parts[:length]), path) or (_found(parts[0], [str(Path.cwd())]) if length == 1 else None)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    return spec


def _found(name: str, path: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path, None) if hasattr(finder, "find_spec") else None
        if spec is not None:
            return spec
    return None


def _is_installed(file: Path) -> bool:
    folders = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")}
    return any(file.is_relative_to(folder) for folder in folders) or "site-packages" in file.parts


def _version(package: str) -> str:
    for distribution in metadata.packages_distributions().get(package, ()):
        return metadata.version(distribution)
    return "of unknown version"


def _imported(content: bytes, package: str) -> Iterator[str]:
    """The modules that a program names in its imports, some of which may be no modules but what is in them."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join(filter(None, [*above, node.module or ""]))
            yield from (each for each in (base, *(f"{base}.{alias.name}" for alias in node.names)) if each.strip("."))


def _texts(definition: object, seen: set[int]) -> Iterator[str]:
    if id(definition) in seen or not isinstance(definition, type | FunctionType):
        return
    seen.add(id(definition))
    module = sys.modules.get(definition.__module__)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(definition)))
    except (OSError, TypeError, SyntaxError):  # defined where no source is kept, as in `python -c`
        yield f"{definition.__qualname__},"
        yield from _bytecode(definition)
        return
    yield from _words(tree)
    if definition.__module__ != "__main__" or module is None:
        return
    for name in sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}):
        value = vars(module).get(name)
        if isinstance(value, bool | int | float | str | tuple):
            yield f"{name}={value!r},"
        elif getattr(value, "__module__", None) == "__main__":
            yield from _texts(value, seen)


def _bytecode(definition: object) -> Iterator[str]:
    functions = [definition] if isinstance(definition, FunctionType) else list(vars(definition).values())
    codes = [function.__code__ for function in functions if isinstance(function, FunctionType)]
    for code in codes:
        yield f"{code.co_code!r}{code.co_names!r}"
        yield from (repr(constant) for constant in code.co_consts if not isinstance(constant, CodeType))
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
