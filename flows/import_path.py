"""Whether Python finds our packages where they are: whoever stands in a folder with a `tasks.py` of their own is told
so in one line. Imports nothing that could be hidden itself."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

OURS = ("lth", "flows", "tasks")
OTHERS = (
    "torch",
    "numpy",
    "ray",
    "prefect",
    "pydantic",
    "typer",
    "rich",
    "yaml",
    "pyarrow",
    "duckdb",
    "fsspec",
    "scipy",
)
"""Packages that we import, of which a user's own file may have the name."""
_ROOT = Path(__file__).resolve().parents[1]


def hidden() -> str | None:
    """What is wrong where another file or folder is imported under the name of one of our packages, or a file of the
    folder that one stands in under that of a package that we need; None if nothing is."""
    for name in OURS:
        found = _found(name)
        if found is not None and found not in (_ROOT / name, _ROOT / name / "__init__.py"):
            return _sentence(found, f"lth's own package {name!r} ({_ROOT / name})", name)
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was removed
        return None
    for name in (*OTHERS, *sorted(sys.stdlib_module_names)):
        if (here / f"{name}.py").is_file() or (here / name / "__init__.py").is_file():
            found = _found(name)
            if found is not None and found in (here / f"{name}.py", here / name / "__init__.py"):
                return _sentence(found, f"the module {name!r} that lth needs", name)
    return None


def check() -> None:
    """End the process with one line if the import path hides one of our packages."""
    said = hidden()
    if said is not None:
        sys.exit(f"error: {said}")


def _found(name: str) -> Path | None:
    """The file that `import name` reads, or the folder where it is no package but a folder of that name."""
    if name in sys.modules:
        at = getattr(sys.modules[name], "__file__", None)
        return Path(at).resolve() if at else None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.origin and spec.origin not in ("built-in", "frozen"):
        return Path(spec.origin).resolve()
    places = list(spec.submodule_search_locations or ())
    return Path(places[0]).resolve() if places else None


def _sentence(found: Path, what: str, name: str) -> str:
    searched = " (PYTHONPATH or the current folder has it first)"
    return f"{found} hides {what}{searched}; rename it, or start lth from another folder and without PYTHONPATH"
